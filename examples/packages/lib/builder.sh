# Builds a package: says what it was made of.
set -eu
echo "$name of $src" > "$out"
for input in $inputs; do
  echo "with $input" >> "$out"
done
