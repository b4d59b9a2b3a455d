{ package, licenses, people, curl, expat, zlib }:
package {
  pname = "git";
  version = "2.43.0";
  sha256 = "9ddb64ab6d788ed0c99cf6a75b1a0746be5a380f03a0b70dfaa53d8f58ed25d3";
  inputs = [ curl expat zlib ];
  meta = {
    description = "Keeps every version of everything";
    license = licenses.gpl2;
    maintainers = [ people.ann people.bob ];
  };
}
