{ package, licenses, people, bzip2, expat, openssl, readline, sqlite, xz, zlib }:
package {
  pname = "python";
  version = "3.12.1";
  sha256 = "1e2a7cc9e615ce0ee9fd478b0e0e8dfbd1f763c246af97b54135fb670fc6387a";
  inputs = [ bzip2 expat openssl readline sqlite xz zlib ];
  meta = {
    description = "Runs scripts";
    license = licenses.psf;
    maintainers = [ people.eve ];
  };
}
