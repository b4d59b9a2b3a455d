{ package, licenses, people }:
package {
  pname = "expat";
  version = "2.5.0";
  sha256 = "c403c78f61104fcd3daebd0592a25f1f0a425d06346aacd1a68833d040c8524d";
  meta = {
    description = "Parses XML as it comes";
    license = licenses.mit;
    maintainers = [ people.bob ];
  };
}
