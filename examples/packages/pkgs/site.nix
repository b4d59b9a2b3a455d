# Our own: its source lies here, and is a part of the repository.
{ package, licenses, people, nginx, postgresql }:
package {
  pname = "site";
  version = "12";
  src = ../src/site.html;
  inputs = [ nginx postgresql ];
  meta = {
    description = "Our web site, and what serves it";
    license = licenses.mit;
    maintainers = [ people.bob ];
  };
}
