# What people may do with a package.
builtins.mapAttrs (_: spdxId: { inherit spdxId; free = true; }) {
  apache2 = "Apache-2.0";
  bsd2 = "BSD-2-Clause";
  bsd3 = "BSD-3-Clause";
  bsd4 = "BSD-4-Clause";
  bzip2 = "bzip2-1.0.6";
  ccBy3 = "CC-BY-3.0";
  curl = "curl";
  gpl2 = "GPL-2.0-only";
  gpl3 = "GPL-3.0-or-later";
  isc = "ISC";
  mit = "MIT";
  postgresql = "PostgreSQL";
  psf = "PSF-2.0";
  publicDomain = "blessing";
  vim = "Vim";
  x11 = "X11";
  zlib = "Zlib";
}
