# A package that is gone says so to whoever still asks for it: it does not evaluate, on purpose.
{ }:
throw "rlogin is gone, for it sent passwords in the clear; take ssh"
