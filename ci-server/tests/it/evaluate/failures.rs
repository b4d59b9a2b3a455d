//! A repository of 2,000 attributes with every way to fail: each is told once, as what it is.

use std::time::Duration;

use ci_model::attr::ErrorKind;
use ci_server::evaluate::Pass;

use nix_types::AttrPath;

use super::repository::{Expected, Repository};
use super::support::{Told, World};

const SIZE: usize = 2_000;

pub(super) fn check(told: &Told, repository: &Repository) {
    for (name, expected) in &repository.expected {
        let name = &name.parse::<AttrPath>().unwrap().to_string();
        let (attr, error) = (told.attrs.get(name), told.errors.get(name));
        match expected {
            Expected::Job => assert!(attr.is_some(), "{name} is no job: {error:?}"),
            Expected::Error(kind, text) => {
                let error = error.unwrap_or_else(|| panic!("{name} is no error: {attr:?}"));
                assert_eq!(error.kind, *kind, "{name}: {error:?}");
                assert!(text.split('|').any(|text| error.message.contains(text)), "{name}: {error:?}");
            }
            Expected::Nothing => assert!(attr.is_none() && error.is_none(), "{name}: {attr:?} {error:?}"),
            Expected::OtherSystem => assert!(told.other.contains(name), "{name}: {attr:?} {error:?}"),
        }
    }
}

/// What the walk says of it, with little memory and time.
pub(super) async fn walked(world: &World) -> Told {
    let mut request = world.request();
    request.systems = Some(vec!["x86_64-linux".parse().unwrap()]);
    request.limits.memory_bytes = 300 << 20;
    request.limits.attr_wall = Duration::from_secs(10);
    world.evaluate(&request, &Pass::ReadOnly).await
}

#[tokio::test]
async fn every_attribute_of_a_bad_repository_is_told_once_and_right() {
    let world = World::new();
    let repository = Repository::write(&world, SIZE);
    let told = walked(&world).await;
    println!("{:?}, {} begun", told.cost, told.begun.len());
    check(&told, &repository);
    assert!(told.attrs.contains_key("nested.a") && told.attrs.contains_key("nested.d"));
    assert_eq!(told.errors["nested.b"].message, "nested no");
    assert!(told.errors["nested.c"].message.contains("nested end"), "{:?}", told.errors["nested.c"]);
    let too_large: Vec<_> = told
        .errors
        .iter()
        .filter(|(_, error)| error.kind == ErrorKind::TooLarge)
        .map(|(path, _)| path)
        .collect();
    assert_eq!(too_large.len(), 2, "{too_large:?}");
    assert!(too_large.iter().any(|path| path.starts_with("cycle.x.x.x")));
    let jobs = repository.expected.iter().filter(|(_, what)| matches!(what, Expected::Job)).count();
    assert_eq!(told.attrs.len(), jobs + 2);
    assert!(told.attrs["meta-throws-0"].meta.description.is_none());
    // The watch looks twenty times a second; what grows between two looks is on top.
    assert!(told.memory_max < 1 << 30, "{}", told.memory_max);
    assert!(told.begun.len() > SIZE - 10);
}
