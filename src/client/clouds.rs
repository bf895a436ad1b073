//! `clouds.yaml`: services under names, with what lets one in; `secure.yaml` holds the secret part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use formats::{Error, Kind, Result};
use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlLoader};

/// The most bytes of such a file.
const LONGEST: u64 = 1 << 20;

/// A cloud's settings: its own, and those below `auth`, by their names.
pub(super) type Cloud = BTreeMap<String, String>;

/// The cloud of this name. `Invalid` if no file has it.
pub(super) fn cloud(name: &str) -> Result<Cloud> {
    let (clouds, path) = load("OS_CLIENT_CONFIG_FILE", "clouds")?.ok_or_else(|| {
        let what = format!("no clouds.yaml is found, and the cloud '{name}' is asked for");
        Error::invalid(what)
    })?;
    let found = section(&clouds, "clouds", name).ok_or_else(|| {
        let names: Vec<_> = names(&clouds).collect();
        let what = format!("there is no cloud '{name}'; there is {}", names.join(", "));
        Error::invalid(what).path(&path)
    })?;
    let mut cloud = Cloud::new();
    if let Some(profile) = found.get(&Yaml::String("profile".into())).and_then(Yaml::as_str) {
        let public = load("OS_CLIENT_VENDOR_FILE", "clouds-public")?;
        let vendor =
            public.as_ref().and_then(|(public, _)| section(public, "public-clouds", profile));
        let vendor = vendor.ok_or_else(|| {
            let what =
                format!("the cloud '{name}' wants the profile '{profile}' of clouds-public.yaml");
            Error::invalid(what).path(&path)
        })?;
        flatten(vendor, &mut cloud);
    }
    flatten(found, &mut cloud);
    if let Some((secure, _)) = load("OS_CLIENT_SECURE_FILE", "secure")?
        && let Some(secrets) = section(&secure, "clouds", name)
    {
        flatten(secrets, &mut cloud);
    }
    Ok(cloud)
}

/// The first of the places where such a file may lie, and what it holds.
fn load(variable: &str, stem: &str) -> Result<Option<(Yaml, PathBuf)>> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or(home);
    let folders = [Some(PathBuf::from(".")), user.map(|folder| folder.join("openstack"))];
    let folders = folders.into_iter().flatten().chain([PathBuf::from("/etc/openstack")]);
    let in_folders = folders.flat_map(|folder| {
        ["yaml", "yml", "json"].map(|ending| folder.join(format!("{stem}.{ending}")))
    });
    let Some(path) = named.into_iter().chain(in_folders).find(|path| path.is_file()) else {
        return Ok(None);
    };
    Ok(Some((parse(&path)?, path)))
}

fn parse(path: &Path) -> Result<Yaml> {
    let fail = |error| Error::io("cannot read", error).path(path);
    if path.metadata().map_err(fail)?.len() > LONGEST {
        return Err(Error::limit(format!("it has more than {LONGEST} bytes")).path(path));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    // What is wrong may show a part of the text, which may be secret: only where it is, is told.
    let bad = |line: usize| {
        Error::new(Kind::Malformed, format!("it is no YAML, in line {line}")).path(path)
    };
    let mut documents =
        YamlLoader::load_from_str(&text).map_err(|error| bad(error.marker().line()))?;
    if documents.is_empty() {
        return Err(bad(1));
    }
    Ok(documents.swap_remove(0))
}

fn section<'a>(file: &'a Yaml, list: &str, name: &str) -> Option<&'a Hash> {
    file[list][name].as_hash()
}

fn names(file: &Yaml) -> impl Iterator<Item = &str> {
    file["clouds"].as_hash().into_iter().flat_map(Hash::keys).filter_map(Yaml::as_str)
}

/// Settings with one value; those below `auth` count as the cloud's own.
fn flatten(section: &Hash, cloud: &mut Cloud) {
    for (key, value) in section {
        let Some(key) = key.as_str() else { continue };
        let text = match value {
            Yaml::String(text) | Yaml::Real(text) => text.clone(),
            Yaml::Integer(number) => number.to_string(),
            Yaml::Boolean(flag) => flag.to_string(),
            Yaml::Hash(inner) if key == "auth" => {
                flatten(inner, cloud);
                continue;
            }
            Yaml::Array(_) | Yaml::Hash(_) | Yaml::Alias(_) | Yaml::Null | Yaml::BadValue => {
                continue;
            }
        };
        cloud.insert(key.to_string(), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_flat_and_its_secrets_come_over_it() {
        let file = |text: &str| YamlLoader::load_from_str(text).expect("it is YAML").remove(0);
        let clouds = file(
            "clouds:\n  mine:\n    auth:\n      username: me\n      project_id: 123\n    verify: \
             false\n    regions: [a, b]\n    region_name: R\n  other: {}\n",
        );
        let secrets = file("clouds: {mine: {auth: {password: 'p: w'}, region_name: S}}");
        let mut cloud = Cloud::new();
        for file in [&clouds, &secrets] {
            flatten(section(file, "clouds", "mine").expect("it is there"), &mut cloud);
        }
        let wanted = [
            ("password", "p: w"),
            ("project_id", "123"),
            ("region_name", "S"),
            ("username", "me"),
            ("verify", "false"),
        ];
        let pairs: Vec<_> = cloud.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(pairs, wanted);
        assert_eq!(names(&clouds).collect::<Vec<_>>(), ["mine", "other"]);
    }
}
