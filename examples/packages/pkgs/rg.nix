{ package, licenses, people, pcre }:
package {
  pname = "ripgrep";
  version = "14.1.0";
  sha256 = "56f693e050b9d5c8fdd884c4b50a33397ddf4f674cb023746ea9f6655fe0aff4";
  inputs = [ pcre ];
  meta = {
    description = "Searches folders, fast";
    license = licenses.mit;
    maintainers = [ people.eve ];
  };
}
