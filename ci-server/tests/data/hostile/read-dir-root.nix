# value: false
let root = builtins.readDir /.; in root ? root || root ? boot || root ? mnt || root ? srv || root ? media
