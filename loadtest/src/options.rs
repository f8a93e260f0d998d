//! What a load test is told: one struct for the command line and for tests.

use std::path::PathBuf;
use std::str::FromStr;

use crate::plan::Provider;

/// A load and how it is judged.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Webhooks a second, at a constant rate
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub rate: u32,
    /// How long the measured load lasts
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// Load before it that is audited but not measured
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub warm_up: u32,
    /// Connections that are kept open
    #[arg(long, value_name = "C", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub connections: u16,
    /// Threads that send
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Decides every choice; of the clock if absent
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How often each provider is imitated, of those that have a source
    #[arg(long, value_name = "SHARES", default_value = "stripe=60,adyen=25,tollgate=15")]
    pub mix: Mix,
    /// Where ingest is, instead of ingest.listen of the configuration
    #[arg(long, value_name = "URL")]
    pub ingest: Option<String>,
    /// How long refused webhooks wait at least until they are sent again; as long as they were told, up to a second, if 0
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub resend_after: u32,
    /// Forged webhooks a second beside the load, to the source of the first provider that is imitated
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=200_000))]
    pub flood: u32,
    /// Loopback addresses that they come from, each with a budget of its own at the gateway
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u8).range(1..=200))]
    pub flood_addresses: u8,
    /// Events that are refused until the end are no failure: the load is meant to be too much
    #[arg(long)]
    pub expect_refusals: bool,
    /// How long after the end refused webhooks are sent again
    #[arg(long, value_name = "S", default_value_t = 60)]
    pub give_up: u32,
    /// How long the pipeline may take to apply what it has accepted
    #[arg(long, value_name = "S", default_value_t = 120)]
    pub drain_timeout: u32,
    /// Seconds between progress lines on standard error; 0 for none
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub progress: u32,
    /// Write the report as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Measure the raw costs of each step afterwards, and tell the efficiency
    #[arg(long)]
    pub limits: bool,
    /// Where relative paths in the configuration start from.
    #[arg(skip)]
    pub config_folder: PathBuf,
}

impl Options {
    /// A load with everything else as on the command line, without progress lines: for tests.
    #[must_use]
    pub fn new(rate: u32, seconds: u32) -> Self {
        Self {
            rate,
            seconds,
            warm_up: 0,
            connections: 64,
            threads: 1,
            seed: None,
            mix: Mix::default(),
            resend_after: 0,
            flood: 0,
            flood_addresses: 16,
            ingest: None,
            expect_refusals: false,
            give_up: 60,
            drain_timeout: 120,
            progress: 0,
            json: None,
            limits: false,
            config_folder: PathBuf::new(),
        }
    }
}

/// How often each provider is imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix {
    shares: [u32; 3],
}

impl Default for Mix {
    fn default() -> Self {
        Self { shares: [60, 25, 15] }
    }
}

impl Mix {
    /// The shares of the providers for which `has_source` is true.
    pub(crate) fn of(&self, has_source: impl Fn(Provider) -> bool) -> [(Provider, u32); 3] {
        Provider::ALL.map(|provider| (provider, if has_source(provider) { self.shares[provider as usize] } else { 0 }))
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = [0; 3];
        for part in text.split(',') {
            let (name, share) = part.split_once('=').ok_or("write it like stripe=60,adyen=25,tollgate=15")?;
            let provider = Provider::ALL.into_iter().find(|provider| provider.as_str() == name.trim());
            let provider = provider.ok_or_else(|| format!("{name:?} is none of stripe, adyen and tollgate"))?;
            let share: u16 = share.trim().parse().map_err(|_| format!("{share:?} is not a share from 0 to 65535"))?;
            shares[provider as usize] = u32::from(share);
        }
        if shares.iter().sum::<u32>() == 0 {
            return Err("at least one share must be more than 0".into());
        }
        Ok(Self { shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_read() {
        assert_eq!("stripe=60,adyen=25,tollgate=15".parse(), Ok(Mix::default()));
        assert_eq!("adyen=1".parse(), Ok(Mix { shares: [0, 1, 0] }));
        for wrong in ["", "stripe", "paypal=1", "stripe=0", "stripe=-1"] {
            assert!(wrong.parse::<Mix>().is_err(), "{wrong}");
        }
        let only_tollgate = Mix::default().of(|provider| provider == Provider::Tollgate);
        assert_eq!(only_tollgate.map(|(_, share)| share), [0, 0, 15]);
    }
}
