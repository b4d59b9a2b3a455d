{ package, licenses, people, openssl, pcre, zlib }:
package {
  pname = "nginx";
  version = "1.24.0";
  sha256 = "a69c3136d1020a1f3a28fd099ea319fbea15e9f3678aa1bc5417340e3351b7c7";
  inputs = [ openssl pcre zlib ];
  meta = {
    description = "Serves the web";
    license = licenses.bsd2;
    maintainers = [ people.bob ];
  };
}
