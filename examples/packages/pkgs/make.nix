{ package, licenses, people }:
package {
  pname = "make";
  version = "4.4.1";
  sha256 = "64a7e3251eab6eccf00140b33b5cf3a9899787968654d5ba067d029899178ea4";
  meta = {
    description = "Builds what is older than its source";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
