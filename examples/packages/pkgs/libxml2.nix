{ package, licenses, people, xz, zlib }:
package {
  pname = "libxml2";
  version = "2.12.4";
  sha256 = "37337e8a68d03243e9f722dcafe1aec03f41bf4e643cb06f6c1438f00fd775c5";
  inputs = [ xz zlib ];
  meta = {
    description = "Parses XML all at once";
    license = licenses.mit;
    maintainers = [ people.bob ];
  };
}
