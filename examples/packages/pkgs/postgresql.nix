{ package, licenses, people, libxml2, openssl, readline, zlib }:
package {
  pname = "postgresql";
  version = "16.1";
  sha256 = "11e27df14077b8a9ae74da0e3e30354cfc2c4a3e96d6340a22164fc139ea6859";
  inputs = [ libxml2 openssl readline zlib ];
  meta = {
    description = "Keeps tables";
    license = licenses.postgresql;
    maintainers = [ people.bob ];
  };
}
