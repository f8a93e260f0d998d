//! Money as integers: minor units with their ISO 4217 currency, never a float.

use std::fmt;

/// The largest amount Tollgate accepts, in minor units: a hundred trillion euros. Sums saturate, far beyond it.
pub const MINOR_MAX: i64 = 10_000_000_000_000_000;

/// Why a text or number is not an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not one of ISO 4217's active alphabetic codes.
    #[error("unknown currency")]
    UnknownCurrency,
    /// Below zero: providers report reversals as events of their own, never as negative amounts.
    #[error("negative amount")]
    Negative,
    /// More than [`MINOR_MAX`].
    #[error("amount too large")]
    TooLarge,
    /// Not a plain decimal number.
    #[error("malformed amount")]
    Malformed,
    /// More digits after the point than the currency has.
    #[error("amount finer than the currency's minor unit")]
    TooFine,
}

/// An ISO 4217 currency: its code and the number of digits of its minor unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Looks a code up, in any case (`eur`, `EUR`).
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`] for anything that is not an active code.
    pub fn parse(code: &str) -> Result<Self, MoneyError> {
        let bytes: [u8; 3] = code.as_bytes().try_into().map_err(|_| MoneyError::UnknownCurrency)?;
        Self::from_bytes(bytes.map(|b| b.to_ascii_uppercase()))
    }

    /// Looks upper-case bytes up.
    ///
    /// # Errors
    /// [`MoneyError::UnknownCurrency`] for anything that is not an active code.
    pub fn from_bytes(bytes: [u8; 3]) -> Result<Self, MoneyError> {
        let known = [ZERO, TWO, THREE, FOUR].iter().any(|codes| contains(codes, bytes));
        known.then_some(Self(bytes)).ok_or(MoneyError::UnknownCurrency)
    }

    /// The code, upper-case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// The code's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> [u8; 3] {
        self.0
    }

    /// Digits of the minor unit by ISO 4217: JPY 0, EUR 2, KWD 3.
    #[must_use]
    pub fn exponent(&self) -> u8 {
        match self.0 {
            code if contains(TWO, code) => 2,
            code if contains(ZERO, code) => 0,
            code if contains(THREE, code) => 3,
            _ => 4,
        }
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount: `minor` units of `currency`, `0 ..= MINOR_MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// The amount in minor units (cents, yen, fils).
    pub minor: i64,
    /// Its currency.
    pub currency: Currency,
}

impl Money {
    /// An amount in ISO 4217 minor units.
    ///
    /// # Errors
    /// When it is negative or larger than [`MINOR_MAX`].
    pub fn new(minor: i64, currency: Currency) -> Result<Self, MoneyError> {
        match minor {
            i64::MIN..=-1 => Err(MoneyError::Negative),
            0..=MINOR_MAX => Ok(Self { minor, currency }),
            _ => Err(MoneyError::TooLarge),
        }
    }

    /// An amount in minor units as a provider counts them, whose exponent may differ from ISO 4217's.
    ///
    /// # Errors
    /// As [`Money::new`], and [`MoneyError::TooFine`] if the amount has a fraction of an ISO minor unit.
    pub fn from_provider(minor: i64, exponent: u8, currency: Currency) -> Result<Self, MoneyError> {
        let iso = currency.exponent();
        let minor = if exponent > iso {
            let factor = power_of_ten(exponent - iso)?;
            if minor % factor != 0 {
                return Err(MoneyError::TooFine);
            }
            minor / factor
        } else {
            minor.checked_mul(power_of_ten(iso - exponent)?).ok_or(MoneyError::TooLarge)?
        };
        Self::new(minor, currency)
    }

    /// Parses a decimal text such as `19.99`; digits beyond the minor unit must be zeros.
    ///
    /// # Errors
    /// The [`MoneyError`] that fits.
    pub fn parse(text: &str, currency: Currency) -> Result<Self, MoneyError> {
        Self::new(parse_decimal(text, currency.exponent())?, currency)
    }

    /// The amount as decimal text with the currency's digits: `19.99`, `500`, `1.250`.
    #[must_use]
    pub fn to_decimal(&self) -> String {
        decimal_text(self.minor, self.currency.exponent())
    }
}

/// Writes `minor` as decimal text with `exponent` digits after the point.
#[must_use]
pub fn decimal_text(minor: i64, exponent: u8) -> String {
    if exponent == 0 {
        return minor.to_string();
    }
    let width = usize::from(exponent);
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = width + 1);
    let (whole, fraction) = digits.split_at(digits.len() - width);
    let sign = if minor < 0 { "-" } else { "" };
    format!("{sign}{whole}.{fraction}")
}

/// Reads decimal text into minor units of `exponent` digits.
///
/// # Errors
/// [`MoneyError::Malformed`] unless it is `[-]digits[.digits]`, [`MoneyError::TooFine`] for non-zero digits beyond
/// the exponent, [`MoneyError::TooLarge`] if it does not fit.
pub fn parse_decimal(text: &str, exponent: u8) -> Result<i64, MoneyError> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return Err(MoneyError::Malformed);
    }
    let width = usize::from(exponent);
    let (kept, dropped) = fraction.split_at(fraction.len().min(width));
    if dropped.bytes().any(|b| b != b'0') {
        return Err(MoneyError::TooFine);
    }
    let mut minor = 0_i64;
    for digit in whole.bytes().chain(kept.bytes()).chain(std::iter::repeat_n(b'0', width - kept.len())) {
        minor =
            minor.checked_mul(10).and_then(|m| m.checked_add(i64::from(digit - b'0'))).ok_or(MoneyError::TooLarge)?;
    }
    Ok(if negative { -minor } else { minor })
}

fn power_of_ten(exponent: u8) -> Result<i64, MoneyError> {
    10_i64.checked_pow(u32::from(exponent)).ok_or(MoneyError::TooLarge)
}

fn contains(codes: &[u8], code: [u8; 3]) -> bool {
    codes.chunks_exact(3).any(|known| known == code)
}

// ISO 4217 active codes by digits of the minor unit (list of 2024-06, with the codes withdrawn since 2020 still in
// use by providers kept: HRK, SLL, ZWL).
const ZERO: &[u8] = b"BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF";
const THREE: &[u8] = b"BHDIQDJODKWDLYDOMRTND";
const FOUR: &[u8] = b"CLFUYW";
const TWO: &[u8] = b"EURUSDGBPAEDAFNALLAMDANGAOAARSAUDAWGAZNBAMBBDBDTBGNBMDBNDBOBBOVBRLBSDBTNBWPBYNBZDCADCDFCHE\
CHFCHWCNYCOPCOUCRCCUCCUPCVECZKDKKDOPDZDEGPERNETBFJDFKPGELGHSGIPGMDGTQGYDHKDHNLHRKHTGHUFIDRILSINRIRRJMDKESKGSKHRKPW\
KYDKZTLAKLBPLKRLRDLSLMADMDLMGAMKDMMKMNTMOPMRUMURMVRMWKMXNMXVMYRMZNNADNGNNIONOKNPRNZDPABPENPGKPHPPKRPLNQARRONRSDRUB\
SARSBDSCRSDGSEKSGDSHPSLESLLSOSSRDSSPSTNSVCSYPSZLTHBTJSTMTTOPTRYTTDTWDTZSUAHUSNUYUUZSVEDVESWSTXCDYERZARZMWZWGZWL";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exponents_are_those_of_iso_4217() {
        let exponent = |code| Currency::parse(code).map(|c| c.exponent());
        assert_eq!(exponent("jpy"), Ok(0));
        assert_eq!(exponent("EUR"), Ok(2));
        assert_eq!(exponent("KWD"), Ok(3));
        assert_eq!(exponent("CLF"), Ok(4));
        assert_eq!(exponent("ZWL"), Ok(2));
        // A match must start at a code's first letter: "URU" is inside "EURUSD".
        assert_eq!(exponent("URU"), Err(MoneyError::UnknownCurrency));
        assert_eq!(exponent("E€"), Err(MoneyError::UnknownCurrency));
    }

    #[test]
    fn provider_exponents_are_converted() {
        let isk = Currency::parse("ISK").unwrap();
        assert_eq!(Money::from_provider(150_000, 2, isk).unwrap().minor, 1500);
        assert_eq!(Money::from_provider(150_001, 2, isk), Err(MoneyError::TooFine));
        let idr = Currency::parse("IDR").unwrap();
        assert_eq!(Money::from_provider(15, 0, idr).unwrap().minor, 1500);
        assert_eq!(Money::from_provider(i64::MAX, 0, idr), Err(MoneyError::TooLarge));
    }

    #[test]
    fn decimals_parse_strictly() {
        let eur = Currency::parse("EUR").unwrap();
        let minor = |text| Money::parse(text, eur).map(|m| m.minor);
        assert_eq!(minor("19.99"), Ok(1999));
        assert_eq!(minor("19.9"), Ok(1990));
        assert_eq!(minor("19.9900"), Ok(1999));
        assert_eq!(minor("19.991"), Err(MoneyError::TooFine));
        assert_eq!(minor("-1"), Err(MoneyError::Negative));
        assert_eq!(minor("99999999999999999999"), Err(MoneyError::TooLarge));
        for bad in ["", ".5", "5.", "1e3", "+1", "1,5", "٣", "NaN", "--1"] {
            assert_eq!(minor(bad), Err(MoneyError::Malformed), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn decimal_text_round_trips(minor in 0..=MINOR_MAX, code in prop::sample::select(vec!["JPY", "EUR", "KWD", "CLF"])) {
            let money = Money::new(minor, Currency::parse(code).unwrap()).unwrap();
            prop_assert_eq!(Money::parse(&money.to_decimal(), money.currency), Ok(money));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_decimal(&text, 2);
        }
    }
}
