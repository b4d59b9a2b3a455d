{ package, licenses, people }:
package {
  pname = "jq";
  version = "1.7.1";
  sha256 = "3293c63ff3839d457e869c4f5e7afbd7fcd561cc7b9ef90cf3e8adef08d3e829";
  meta = {
    description = "Takes JSON apart";
    license = licenses.mit;
    maintainers = [ people.eve ];
  };
}
