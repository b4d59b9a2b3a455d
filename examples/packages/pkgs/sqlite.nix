{ package, licenses, people, readline }:
package {
  pname = "sqlite";
  version = "3.44.2";
  sha256 = "677766ba4bc28e26e8879e3227fafe0c45676818ac40562b2fbadefd1691284e";
  inputs = [ readline ];
  meta = {
    description = "Keeps tables in a file";
    license = licenses.publicDomain;
    maintainers = [ people.eve ];
  };
}
