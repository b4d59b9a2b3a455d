# value: {"--option":1,"--store":3,"-E":2}
{ "--option" = 1; "-E" = 2; "--store" = 3; }
