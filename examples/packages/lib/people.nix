# Who looks after packages.
{
  ann = { name = "Ann"; email = "ann@example.org"; github = "ann-example"; githubId = 1000001; };
  bob = { name = "Bob"; email = "bob@example.org"; github = "bob-example"; githubId = 1000002; };
  eve = { name = "Eve"; email = "eve@example.org"; github = "eve-example"; githubId = 1000003; };
}
