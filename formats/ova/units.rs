//! Sizes as a descriptor has them: a number, and units such as `byte * 2^30`.

use nom::branch::alt;
use nom::bytes::complete::tag_no_case;
use nom::character::complete::{char, multispace0, u64 as number};
use nom::combinator::{all_consuming, map, opt, value};
use nom::multi::many0;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use crate::base::error::{Error, Result};

/// So many of these units, in bytes. Units that are not said are bytes.
pub(super) fn bytes(count: u64, units: Option<&str>, at: u64) -> Result<u64> {
    let units = units.map(str::trim).filter(|units| !units.is_empty()).unwrap_or("byte");
    let shown: String = units.chars().take(40).collect();
    let shown = shown.escape_debug();
    let Ok((_, factors)) = all_consuming(product).parse(units) else {
        return Err(Error::malformed(at, format!("'{shown}' is no unit of size")));
    };
    let size = factors.into_iter().try_fold(count, |size, (base, power)| {
        let factor = base.checked_pow(u32::try_from(power).ok()?)?;
        size.checked_mul(factor)
    });
    let what = || format!("{count} of the unit '{shown}' do not end in 2^64");
    size.ok_or_else(|| Error::malformed(at, what()))
}

/// A base and the powers it is taken to.
type Factor = (u64, u64);

fn product(text: &str) -> IResult<&str, Vec<Factor>> {
    let star = delimited(multispace0, char('*'), multispace0);
    let (rest, (first, mut others)) = (word, many0(preceded(star, factor))).parse(text)?;
    others.push(first);
    Ok((rest, others))
}

fn factor(text: &str) -> IResult<&str, Factor> {
    let hat = delimited(multispace0, char('^'), multispace0);
    map((number, opt(preceded(hat, number))), |(base, power)| (base, power.unwrap_or(1)))
        .parse(text)
}

/// Words as old writers had them stand for powers of two.
fn word(text: &str) -> IResult<&str, Factor> {
    alt((
        value((1024, 4), alt((tag_no_case("TeraBytes"), tag_no_case("TB")))),
        value((1024, 3), alt((tag_no_case("GigaBytes"), tag_no_case("GB")))),
        value((1024, 2), alt((tag_no_case("MegaBytes"), tag_no_case("MB")))),
        value((1024, 1), alt((tag_no_case("KiloBytes"), tag_no_case("KB")))),
        value((1, 1), alt((tag_no_case("bytes"), tag_no_case("byte")))),
    ))
    .parse(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_products_or_words() {
        let known = [
            (None, 5),
            (Some(""), 5),
            (Some("byte"), 5),
            (Some("Bytes"), 5),
            (Some("byte * 2^30"), 5 << 30),
            (Some("byte*2^20"), 5 << 20),
            (Some("byte * 10^9"), 5_000_000_000),
            (Some(" byte * 1024 * 2 ^ 10 "), 5 << 20),
            (Some("MegaBytes"), 5 << 20),
            (Some("GB"), 5 << 30),
            (Some("KiloBytes * 2"), 5 << 11),
        ];
        for (units, size) in known {
            assert_eq!(bytes(5, units, 0).expect("a unit"), size, "{units:?}");
        }
        for wrong in ["byte * 2^999", "byte * 2^64", "2^30", "byte *", "percent", "byte * -1"] {
            assert!(bytes(5, Some(wrong), 0).is_err(), "{wrong}");
        }
        let huge = "byte * 2^99999999999999999999";
        assert!(bytes(5, Some(huge), 0).is_err());
    }
}
