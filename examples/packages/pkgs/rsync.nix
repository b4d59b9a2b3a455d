{ package, licenses, people, openssl, zlib }:
package {
  pname = "rsync";
  version = "3.2.7";
  sha256 = "2ef5d9be48b5be2e9985075d51fbd1b1638d88449b791156988e40bde4b0a5a5";
  inputs = [ openssl zlib ];
  meta = {
    description = "Copies what differs";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
