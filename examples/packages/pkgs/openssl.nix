{ package, licenses, people }:
package {
  pname = "openssl";
  version = "3.2.0";
  sha256 = "9e95b9f61f8f5409ff518c78df52d805eea513901d4027987c10592203f2e28c";
  meta = {
    description = "Keeps connections secret";
    license = licenses.apache2;
    maintainers = [ people.bob ];
  };
}
