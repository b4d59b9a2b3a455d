{ package, licenses, people }:
package {
  pname = "gzip";
  version = "1.13";
  sha256 = "eb64bbb74785c61fc14a9e29a135273f7a7d642ef0474c5c7122678e2931ab5e";
  meta = {
    description = "Compresses";
    license = licenses.gpl3;
    maintainers = [ people.ann ];
  };
}
