# value: false
let dev = builtins.readDir /dev; in dev ? sda || dev ? vda || dev ? nvme0n1 || dev ? kvm || dev ? mem
