{ package, licenses, people, readline }:
package {
  pname = "bash";
  version = "5.2";
  sha256 = "93dd38db12ec0f2aeccbd14a4dd1c3f2fcc937ad75ce134fa2b09e3fdc04106b";
  inputs = [ readline ];
  meta = {
    description = "The shell";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
