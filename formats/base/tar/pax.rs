//! Records of a pax header: `LENGTH KEY=VALUE`, a line each.

use crate::base::error::{Error, Result};

/// What records say of the member behind them, or of all of those.
#[derive(Clone, Default)]
pub(super) struct Attributes {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) modified: Option<i64>,
    pub(super) sparse: Option<Sparse>,
}

/// What records of GNU's say of a member with holes.
#[derive(Clone, Default)]
pub(super) struct Sparse {
    /// The version of its map, where that stands in front of its content.
    version: [Option<u64>; 2],
    name: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Sparse {
    fn take(&mut self, key: &[u8], value: &[u8]) {
        match key {
            b"major" => self.version[0] = decimal(value),
            b"minor" => self.version[1] = decimal(value),
            b"name" => self.name = Some(value.to_vec()),
            b"realsize" => self.size = decimal(value),
            _ => {}
        }
    }

    /// Its name, and its size with the holes. `None` if its map stands somewhere else.
    pub(super) fn known(self) -> Option<(Vec<u8>, u64)> {
        let known = self.version == [Some(1), Some(0)];
        self.name.zip(self.size).filter(|_| known)
    }
}

impl Attributes {
    /// Takes in the records of a header whose content lies at `at`.
    pub(super) fn read(&mut self, records: &[u8], at: u64) -> Result<()> {
        let broken = || Error::malformed(at, "a pax header whose records are broken");
        let mut rest = records;
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let len = decimal(&rest[..space]).and_then(|len| usize::try_from(len).ok());
            let len = len.filter(|len| *len > space).ok_or_else(broken)?;
            let record = rest.get(space + 1..len).ok_or_else(broken)?;
            let (end, record) = record.split_last().ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            if *end != b'\n' {
                return Err(broken());
            }
            self.take(&record[..equals], &record[equals + 1..], at)?;
            rest = &rest[len..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<()> {
        // An empty value takes back what an earlier one has said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" if value.is_empty() => self.size = None,
            b"size" => {
                let what = "a pax header whose size is no number";
                self.size = Some(decimal(value).ok_or_else(|| Error::malformed(at, what))?);
            }
            b"mtime" => {
                let whole = value.split(|byte| *byte == b'.').next().unwrap_or_default();
                self.modified = decimal(whole).and_then(|time| i64::try_from(time).ok());
            }
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().take(key, value);
                }
            }
        }
        Ok(())
    }

    /// What these say, and where they say nothing, what `others` do.
    pub(super) fn or(self, others: &Attributes) -> Attributes {
        Attributes {
            path: self.path.or_else(|| others.path.clone()),
            link: self.link.or_else(|| others.link.clone()),
            size: self.size.or(others.size),
            modified: self.modified.or(others.modified),
            sparse: self.sparse.or_else(|| others.sparse.clone()),
        }
    }
}

/// A number in decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_say_what_has_no_room_in_the_header() {
        let mut all = Attributes::default();
        let records = b"16 path=a/b\nc/d\n19 size=8589934593\n19 mtime=12.345678\n";
        all.read(records, 0).expect("three records");
        assert_eq!(all.path.as_deref(), Some(&b"a/b\nc/d"[..]));
        assert_eq!((all.size, all.modified), (Some(8_589_934_593), Some(12)));
        all.read(b"8 path=\n", 0).expect("one record");
        assert_eq!(all.path, None);
    }

    #[test]
    fn broken_records_are_refused() {
        let broken: [&[u8]; 8] = [
            b"5 a=b",
            b"99 path=a\n",
            b"0 path=a\n",
            b"x path=a\n",
            b"9 path:a\n",
            b"10 size=-1\n",
            b"29 size=99999999999999999999\n",
            b"\0\0\0",
        ];
        for records in broken {
            assert!(Attributes::default().read(records, 0).is_err(), "{records:?}");
        }
    }
}
