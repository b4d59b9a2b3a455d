{ package, licenses, people }:
package {
  pname = "pcre";
  version = "10.42";
  sha256 = "113aa362311be54f18982efb38feb33edceef2b2a53ef3da026dfb7fda5d8436";
  meta = {
    description = "Matches regular expressions";
    license = licenses.bsd3;
    maintainers = [ people.eve ];
  };
}
