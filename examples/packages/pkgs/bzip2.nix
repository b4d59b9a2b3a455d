{ package, licenses, people }:
package {
  pname = "bzip2";
  version = "1.0.8";
  sha256 = "58d37f2e882d3dd02f66d83949b5b0e30f5632fd1c17fb606bd08a851234e23c";
  meta = {
    description = "Compresses, slowly and well";
    license = licenses.bzip2;
    maintainers = [ people.ann ];
  };
}
