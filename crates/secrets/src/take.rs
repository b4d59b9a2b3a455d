//! Reads `credentials = …` of a section. In: the section, the key. Out: a checked source; what is wrong goes to the
//! section's report, without any value. Every documented spelling is taken.

use std::collections::BTreeMap;

use object_kit::ask::is_address;
use service_kit::config::{Located, Section, TextOrTable};

use crate::parse::is_name;
use crate::source::{Cloud, ManagedSecret, Source, VaultSecret, VaultToken};

/// Most variables, and most fields, of one source.
const LIST_MAX: usize = 64;
/// The mount of a KV engine that is not named.
const MOUNT: &str = "secret";
/// The secret of Secrets Manager that an app is in when none is named.
const APP_SECRET: &str = "eka-ci/github-app";

/// For whom credentials are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A cache, or whoever uses what a source gives as it is.
    Cache,
    /// A GitHub App: what an instance or profile gives only opens Secrets Manager, where the app is.
    GithubApp,
}

type Read = fn(&Section, Owner) -> Option<Source>;

/// How sources are written, and who reads them.
const KINDS: [(&str, Read); 14] = [
    ("none", |_, _| Some(Source::None)),
    ("env", |s, _| env(s)),
    ("file", |s, _| path(s, "path").map(|path| Source::File { path })),
    ("aws-profile", aws_profile),
    ("cachix-token", |s, _| cachix(s)),
    ("vault", |s, _| vault(s)),
    ("aws-secrets-manager", |s, _| managed(s, None).map(Source::AwsSecretsManager)),
    ("systemd-credential", |s, _| systemd(s, "name")),
    ("systemd", |s, _| systemd(s, "credential_id")),
    ("instance-metadata", instance),
    ("github-app-key-file", |s, _| app_key(s)),
    ("git-hub-app-key-file", |s, _| app_key(s)),
    ("github-app-key", |s, _| app_key(s)),
    ("git-hub-app-key", |s, _| app_key(s)),
];

/// Takes the source that stands under `key`; none when it is absent, or cannot be made out. What is wrong is in the
/// section's report, which decides whether the file may be used at all.
pub fn take(section: &Section, key: &str, owner: Owner) -> Option<Located<Source>> {
    match section.text_or_table(key)? {
        TextOrTable::Text(text) => {
            let source = match text.value.as_str() {
                "none" => Some(Source::None),
                "instance-metadata" => bare_instance(owner),
                _ => {
                    let remedy = r#"write "none", "instance-metadata", or a table such as { env = { vars = ["NAME"] } }"#;
                    section.refuse(key, Some(text.line), "is no source of credentials", remedy);
                    None
                }
            };
            source.map(|value| Located { value, line: text.line })
        }
        TextOrTable::Table(table) => one_of(table, owner),
    }
}

fn one_of(table: Section, owner: Owner) -> Option<Located<Source>> {
    let line = table.line().unwrap_or_default();
    let named = table.rest();
    let known = |name: &str| KINDS.iter().any(|(kind, _)| *kind == name);
    let count = named.iter().filter(|name| known(&name.value)).count();
    let mut sources = Vec::new();
    for (kind, read) in KINDS {
        if let Some(inner) = table.table(kind) {
            sources.extend(read(&inner, owner));
            inner.finish();
        }
    }
    if named.is_empty() {
        table.refuse(
            "",
            table.line(),
            "names no source of credentials",
            r#"write credentials = "none" for none"#,
        );
    }
    if count > 1 {
        table.refuse("", table.line(), "names more than one source of credentials", "keep one of them");
    }
    let alone = named.len() == 1;
    table.finish();
    sources.pop().filter(|_| alone).map(|value| Located { value, line })
}

/// A text that must be there, and must not be empty.
fn text(section: &Section, key: &str, remedy: &str) -> Option<Located<String>> {
    let text = section.string(key);
    section.missing(key, remedy);
    let text = text?;
    if text.value.trim().is_empty() {
        section.refuse(key, Some(text.line), "is empty", remedy);
        return None;
    }
    Some(text)
}

fn path(section: &Section, key: &str) -> Option<std::path::PathBuf> {
    let path = section.path(key);
    section.missing(key, "name a file");
    path.map(|path| path.value)
}

/// The name of a variable.
fn variable(section: &Section, key: &str, name: Located<String>) -> Option<String> {
    if is_name(&name.value) {
        return Some(name.value);
    }
    section.refuse(key, Some(name.line), "is no name of a variable", "write letters, digits and _ alone");
    None
}

fn env(section: &Section) -> Option<Source> {
    let vars = section.strings("vars");
    section.missing("vars", r#"name the variables: vars = ["NAME"]"#);
    let vars = vars?;
    if vars.value.is_empty() || vars.value.len() > LIST_MAX {
        section.refuse(
            "vars",
            Some(vars.line),
            format!("has none, or more than {LIST_MAX}"),
            "name the variables",
        );
        return None;
    }
    let wanted = vars.value.len();
    let vars: Vec<_> = vars.value.into_iter().filter_map(|name| variable(section, "vars", name)).collect();
    (vars.len() == wanted).then_some(Source::Env { vars })
}

fn cachix(section: &Section) -> Option<Source> {
    let env_var = match section.string("env_var") {
        Some(name) => variable(section, "env_var", name)?,
        None => "CACHIX_AUTH_TOKEN".to_owned(),
    };
    Some(Source::CachixToken { env_var })
}

fn systemd(section: &Section, key: &str) -> Option<Source> {
    let name = text(section, key, "name the credential, as LoadCredential= does")?;
    // systemd's own rule for these names, as far as it matters for paths.
    let fits = name.value.len() <= 255
        && !matches!(name.value.as_str(), "." | "..")
        && !name.value.contains(|c: char| c == '/' || c.is_control());
    if !fits {
        section.refuse(
            key,
            Some(name.line),
            "is no name of a credential",
            "write it as LoadCredential= does",
        );
        return None;
    }
    Some(Source::SystemdCredential { name: name.value })
}

fn app_key(section: &Section) -> Option<Source> {
    let app_id = section.string("app_id");
    let app_id_env = section.string("app_id_env");
    if let (Some(_), Some(other)) = (&app_id, &app_id_env) {
        section.refuse("app_id_env", Some(other.line), "stands beside app_id", "keep one of them");
    }
    let app_id = app_id.map(|id| id.value);
    let app_id_env = match app_id_env {
        Some(name) => variable(section, "app_id_env", name)?,
        None => "GITHUB_APP_ID".to_owned(),
    };
    let key_file = section.path("key_file").map(|path| path.value);
    Some(Source::GithubAppKeyFile { app_id, app_id_env, key_file })
}

/// An address; plain `http` is answered with a warning where a secret goes over it in the clear.
fn address(section: &Section, key: &str, text: &Located<String>) -> Option<String> {
    let url = text.value.trim_end_matches('/').to_owned();
    if !is_address(&url) || url.contains(['?', '#']) {
        let remedy = "write https://HOST or https://HOST:PORT, without name and password";
        section.refuse(key, Some(text.line), "is no address", remedy);
        return None;
    }
    let here = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
    if url.starts_with("http://") && !here.iter().any(|here| url.starts_with(here)) {
        section.warn(key, Some(text.line), "is plain http: tokens and secrets go in the clear", "use https");
    }
    Some(url)
}

/// An address that is another one than the real service's.
fn override_of(section: &Section) -> Option<String> {
    let text = section.string("endpoint")?;
    let line = Some(text.line);
    section.warn("endpoint", line, "stands in for the service's own address", "remove it outside tests");
    address(section, "endpoint", &text)
}

fn region(section: &Section) -> Option<String> {
    let region = section.string("region")?;
    let fits = !region.value.is_empty()
        && region.value.len() <= 64
        && region.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !fits {
        section.refuse("region", Some(region.line), "is no region", "write it as in eu-central-1");
        return None;
    }
    Some(region.value)
}

/// A secret of Secrets Manager. `default` is its name when it has none: `Some(None)` reads no secret then.
fn managed(section: &Section, default: Option<Option<&str>>) -> Option<ManagedSecret> {
    let (region, endpoint) = (region(section), override_of(section));
    let name = match default {
        None => text(section, "secret_name", "name the secret")?.value,
        Some(default) => match section.string("secret_name") {
            Some(name) => name.value,
            None => match default {
                Some(name) => name.to_owned(),
                None => {
                    alone(section, &[("region", region.is_some()), ("endpoint", endpoint.is_some())]);
                    return None;
                }
            },
        },
    };
    Some(ManagedSecret { name, region, endpoint })
}

/// Refuses keys that say where a secret is when no secret is read.
fn alone(section: &Section, keys: &[(&str, bool)]) {
    for (key, _) in keys.iter().filter(|(_, there)| *there) {
        section.refuse(key, section.line(), "stands without secret_name", "name the secret, or remove it");
    }
}

fn default_secret(owner: Owner) -> Option<&'static str> {
    match owner {
        Owner::Cache => None,
        Owner::GithubApp => Some(APP_SECRET),
    }
}

fn aws_profile(section: &Section, owner: Owner) -> Option<Source> {
    let profile = text(section, "profile", "name the profile");
    let secret = managed(section, Some(default_secret(owner)));
    Some(Source::AwsProfile { profile: profile?.value, secret })
}

fn bare_instance(owner: Owner) -> Option<Source> {
    let secret = default_secret(owner).map(|name| ManagedSecret {
        name: name.to_owned(),
        region: None,
        endpoint: None,
    });
    Some(Source::InstanceMetadata { provider: None, endpoint: None, resource: None, secret })
}

fn instance(section: &Section, owner: Owner) -> Option<Source> {
    let clouds = [("aws", Cloud::Aws), ("ec2", Cloud::Aws), ("gcp", Cloud::Gcp), ("azure", Cloud::Azure)];
    let provider = section.choice("provider", &clouds);
    let endpoint = override_of(section);
    let resource = section.string("resource").map(|resource| resource.value);
    let name = section.string("secret_name");
    let region = region(section);
    let manager = section.string("secrets_manager_endpoint");
    let manager = manager.and_then(|text| address(section, "secrets_manager_endpoint", &text));
    let name = name.map(|name| name.value).or_else(|| default_secret(owner).map(str::to_owned));
    if let (Some(_), Some(cloud)) = (&name, provider.filter(|cloud| cloud.value != Cloud::Aws)) {
        let what = "gives no keys for AWS Secrets Manager, where the secret is read";
        section.refuse("provider", Some(cloud.line), what, "take the secret from another source");
        return None;
    }
    let secret = match name {
        Some(name) => Some(ManagedSecret { name, region, endpoint: manager }),
        None => {
            alone(section, &[("region", region.is_some()), ("secrets_manager_endpoint", manager.is_some())]);
            None
        }
    };
    Some(Source::InstanceMetadata { provider: provider.map(|cloud| cloud.value), endpoint, resource, secret })
}

fn vault(section: &Section) -> Option<Source> {
    let url = text(section, "address", "name the server: https://HOST:8200");
    let url = url.and_then(|text| address(section, "address", &text));
    let path = text(section, "secret_path", "name the secret");
    let mount = section.string("mount");
    let namespace = section.string("namespace").map(|namespace| namespace.value.trim_matches('/').to_owned());
    let token = token(section);
    let fields = fields(section);
    let ca_file = section.path("ca_file").map(|path| path.value);
    let (url, path, token, fields) = (url?, path?, token?, fields?);
    let (mount, inside) = split_path(mount.as_ref().map(|mount| mount.value.as_str()), &path.value);
    let good = |path: &str| path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if !good(&mount) || !good(&inside) {
        let remedy = "write MOUNT in mount and the rest in secret_path, as in team/cache";
        section.refuse("secret_path", Some(path.line), "is no path of a secret", remedy);
        return None;
    }
    let namespace = namespace.filter(|namespace| !namespace.is_empty());
    Some(Source::Vault(VaultSecret { address: url, mount, path: inside, namespace, token, fields, ca_file }))
}

/// Mount and path of a secret, which may be written as the API has it, with `MOUNT/data/` in front.
fn split_path(mount: Option<&str>, path: &str) -> (String, String) {
    let mount = mount.unwrap_or(MOUNT).trim_matches('/');
    let path = path.trim_matches('/');
    let path = path.strip_prefix("v1/").filter(|rest| rest.starts_with(mount)).unwrap_or(path);
    let inside = path.strip_prefix(mount).and_then(|rest| rest.strip_prefix("/data/")).unwrap_or(path);
    (mount.to_owned(), inside.to_owned())
}

fn token(section: &Section) -> Option<VaultToken> {
    let (variable_name, file) = (section.string("token_env"), section.path("token_file"));
    match (variable_name, file) {
        (Some(_), Some(file)) => {
            section.refuse("token_file", Some(file.line), "stands beside token_env", "keep one of them");
            None
        }
        (None, Some(file)) => Some(VaultToken::File(file.value)),
        (Some(name), None) => variable(section, "token_env", name).map(VaultToken::Env),
        (None, None) => Some(VaultToken::Env("VAULT_TOKEN".to_owned())),
    }
}

fn fields(section: &Section) -> Option<BTreeMap<String, String>> {
    let Some(table) = section.table("fields") else { return Some(BTreeMap::new()) };
    let names = table.rest();
    let mut fields = BTreeMap::new();
    for name in names.iter().take(LIST_MAX) {
        if let Some(field) = table.string(&name.value) {
            fields.insert(name.value.clone(), field.value);
        }
    }
    if names.len() > LIST_MAX {
        table.refuse("", table.line(), format!("has more than {LIST_MAX} fields"), "take what is needed");
    }
    let whole = fields.len() == names.len();
    table.finish();
    whole.then_some(fields)
}
