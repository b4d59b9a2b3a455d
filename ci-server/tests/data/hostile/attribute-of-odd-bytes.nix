# any
{ "a\nb" = 1; "\r\t" = 2; "\"\\" = 3; "a.b" = 4; "" = 5; "$(reboot)" = 6; "`x`" = 7; "${builtins.fromJSON "\"\\u001b[2J\\u202e\\u0007\""}" = 8; }
