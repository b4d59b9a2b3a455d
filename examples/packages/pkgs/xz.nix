{ package, licenses, people }:
package {
  pname = "xz";
  version = "5.4.5";
  sha256 = "ac0e2339b41c598a54474c65c64e74d080693898d7a678ff24d8369ed939b2c0";
  meta = {
    description = "Compresses, slowly and better";
    license = licenses.publicDomain;
    maintainers = [ people.ann ];
  };
}
