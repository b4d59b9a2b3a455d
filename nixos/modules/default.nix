# Both modules. In: nothing but the two files beside this one; `services.nix-post-build-hook-queue` sets
# `services.eka-queue`, so whoever imports one has both.
{
  imports = [
    ./eka-queue.nix
    ./nix-post-build-hook-queue.nix
  ];
}
