//! Kernels of Linux by the names of their files, and which of them is the newest.

use std::cmp::Ordering;

/// How kernels and what belongs to them are called in the folder for booting.
const FRONTS: [&str; 6] = ["vmlinuz-", "vmlinux-", "config-", "kernel-", "Image-", "image-"];

/// The version in the name of a kernel's file.
pub(crate) fn of_file(name: &str) -> Option<&str> {
    let version = FRONTS.iter().find_map(|front| name.strip_prefix(front))?;
    is_version(version).then_some(version)
}

/// Whether this is a version as kernels have them: `6.1.0-18-amd64`. What rescues a system is
/// called after number 0.
pub(crate) fn is_version(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    let digits = text.split('.').next().unwrap_or_default();
    text.len() <= 80
        && text.contains('.')
        && text.chars().all(fits)
        && !digits.is_empty()
        && digits.chars().all(|c| c.is_ascii_digit())
        && digits != "0"
}

/// Which of two versions is the newer one: numbers count as numbers.
pub(crate) fn order(one: &str, other: &str) -> Ordering {
    let mut pair = (parts(one), parts(other));
    loop {
        let ordering = match (pair.0.next(), pair.1.next()) {
            (None, None) => return Ordering::Equal,
            (Some(Part::Number(a)), Some(Part::Number(b))) => {
                let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
                a.len().cmp(&b.len()).then_with(|| a.cmp(b))
            }
            // `6.1-rc1` comes before `6.1`, `6.1.1` behind it.
            (Some(Part::Word(word)), None) if word.starts_with("-rc") => Ordering::Less,
            (None, Some(Part::Word(word))) if word.starts_with("-rc") => Ordering::Greater,
            (a, b) => a.cmp(&b),
        };
        if ordering != Ordering::Equal {
            return ordering;
        }
    }
}

/// A stretch of a version. Nothing comes before a word, a word before a number.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Word(&'a str),
    Number(&'a str),
}

fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let is_number = rest.chars().next()?.is_ascii_digit();
        let end = rest.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        rest = behind;
        Some(if is_number { Part::Number(part) } else { Part::Word(part) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_versions_count_as_numbers() {
        let sorted = [
            "5.14.0-427.el9.x86_64",
            "6.1.0-9-amd64",
            "6.1.0-18-amd64",
            "6.9.0",
            "6.10-rc3",
            "6.10",
            "6.10.1",
            "10.0.0",
        ];
        for (index, one) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                assert_eq!(order(one, other), index.cmp(&other_index), "{one} and {other}");
            }
        }
    }

    #[test]
    fn kernels_are_known_by_their_names() {
        assert_eq!(of_file("vmlinuz-6.1.0-18-amd64"), Some("6.1.0-18-amd64"));
        assert_eq!(of_file("config-5.14.0"), Some("5.14.0"));
        let others = ["vmlinuz", "vmlinuz-virt", "initrd.img-6.1.0", "vmlinuz-0-rescue-0123.abc"];
        for name in others {
            assert_eq!(of_file(name), None, "{name}");
        }
    }
}
