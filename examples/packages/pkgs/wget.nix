{ package, licenses, people, openssl, pcre, zlib }:
package {
  pname = "wget";
  version = "1.21.4";
  sha256 = "a1439c75224fcca1e71a845e9be1bc9f027e9c208350e38a22e302a3133706c8";
  inputs = [ openssl pcre zlib ];
  meta = {
    description = "Downloads whole sites";
    license = licenses.gpl3;
    maintainers = [ people.bob ];
  };
}
