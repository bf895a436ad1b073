//! Moments, as records and descriptors have them ↔ seconds since 1970.

use std::ops::RangeInclusive;

/// Days from 1970-01-01 to a day of the calendar.
fn days(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the odd day is their last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month, day, hour, minute and second of a moment.
fn calendar(seconds: i64) -> [i64; 6] {
    let (day, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    [year, month, day, second / 3600, second / 60 % 60, second % 60]
}

/// A moment put together; `None` if there is none such.
fn moment(parts: [i64; 6], zone: u8) -> Option<i64> {
    let [year, month, day, hour, minute, second] = parts;
    let ranges: [RangeInclusive<i64>; 6] = [1..=9999, 1..=12, 1..=31, 0..=23, 0..=59, 0..=59];
    let sound = parts.iter().zip(&ranges).all(|(part, range)| range.contains(part));
    // The zone counts quarters of an hour east of Greenwich.
    let zone = i64::from(i8::from_le_bytes([zone])) * 900;
    let time = hour * 3600 + minute * 60 + second - zone;
    sound.then(|| days(year, month, day) * 86_400 + time)
}

/// The moment in a directory record; `None` if it says none.
pub(super) fn short(bytes: [u8; 7]) -> Option<i64> {
    let [year, month, day, hour, minute, second, zone] = bytes;
    let parts = [i64::from(year) + 1900, month.into(), day.into(), hour.into(), minute.into()];
    let [year, month, day, hour, minute] = parts;
    moment([year, month, day, hour, minute, second.into()], zone)
}

/// The moment in a descriptor, of seventeen digits; `None` if it says none.
pub(super) fn long(bytes: &[u8; 17]) -> Option<i64> {
    let number = |from: usize, to: usize| {
        let digits = &bytes[from..to];
        let sound = digits.iter().all(u8::is_ascii_digit);
        sound.then(|| digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
    };
    let parts = [
        number(0, 4)?,
        number(4, 6)?,
        number(6, 8)?,
        number(8, 10)?,
        number(10, 12)?,
        number(12, 14)?,
    ];
    moment(parts, bytes[16])
}

/// A moment as people write it, in UTC.
pub(super) fn text(seconds: i64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// As a directory record has it: years from 1900 to 2155, and the nearest moment outside.
pub(super) fn to_short(seconds: i64) -> [u8; 7] {
    let (first, last) = (days(1900, 1, 1) * 86_400, days(2156, 1, 1) * 86_400 - 1);
    let [year, month, day, hour, minute, second] = calendar(seconds.clamp(first, last));
    let parts = [year - 1900, month, day, hour, minute, second, 0];
    parts.map(|part| u8::try_from(part).expect("parts of a moment of these years"))
}

/// As a descriptor has it: years from 1 to 9999, and the nearest moment outside.
pub(super) fn to_long(seconds: i64) -> [u8; 17] {
    let (first, last) = (days(1, 1, 1) * 86_400, days(10_000, 1, 1) * 86_400 - 1);
    let [year, month, day, hour, minute, second] = calendar(seconds.clamp(first, last));
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00\0");
    text.into_bytes().try_into().expect("as many digits as a descriptor has")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_what_they_were() {
        for seconds in [0, 315_532_800, 951_782_399, 951_868_800, 1_795_000_000, -1, 5_000_000_000]
        {
            assert_eq!(short(to_short(seconds)), Some(seconds));
            assert_eq!(long(&to_long(seconds)), Some(seconds));
        }
        assert_eq!(text(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(to_short(315_532_800), [80, 1, 1, 0, 0, 0, 0]);
        assert_eq!(short([100, 2, 29, 1, 0, 0, 4]), Some(951_782_400), "an hour east");
    }

    #[test]
    fn there_is_no_thirteenth_month() {
        assert_eq!(short([100, 13, 1, 0, 0, 0, 0]), None);
        assert_eq!(long(b"0000000000000000\0"), None);
        assert_eq!(long(b"20x0010100000000\0"), None);
        assert_eq!(to_short(i64::MIN)[0], 0);
        assert_eq!(to_short(i64::MAX)[0], 255);
    }
}
