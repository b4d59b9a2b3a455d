{ package, licenses, people, openssl, zlib }:
package {
  pname = "curl";
  version = "8.5.0";
  sha256 = "f434231d9665373cd7e4214a2023357e260c7253af7a6f6d0b6df61ea95311be";
  inputs = [ openssl zlib ];
  meta = {
    description = "Transfers files from anywhere to here";
    license = licenses.curl;
    maintainers = [ people.bob ];
  };
}
