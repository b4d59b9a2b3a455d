{ package, licenses, people }:
package {
  pname = "zlib";
  version = "1.2.13";
  sha256 = "d986fda90c1e677acf72bd1dd12c5ffd42e2c1bb5c114b3d34f3b3654d36b881";
  meta = {
    description = "Compresses what everybody compresses";
    license = licenses.zlib;
    maintainers = [ people.ann ];
  };
}
