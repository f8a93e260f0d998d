//! Writes the seeds of each fuzz target into `corpus/TARGET`: requests that were recorded, and what becomes of them.

mod hostile;

use std::fs;
use std::path::Path;

use domain::fold::Facts;
use domain::frame::{Record, begin};
use domain::providers::{Delivery, Item};
use hostile::checks::Request;
use hostile::configured::CONFIGURED;

fn main() -> std::io::Result<()> {
    let mut count = 0;
    let mut write = |target: &str, bytes: &[u8]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        count += 1;
        fs::write(folder.join(format!("seed-{count:04}")), bytes)
    };
    for (which, configured) in (0..).zip(CONFIGURED.iter()) {
        write("texts", configured.text.as_bytes())?;
        let mut facts = Facts::default();
        for recorded in &configured.recorded {
            let (now_unix, headers) = (recorded.now_unix, recorded.headers.clone());
            let request = Request { which, now_unix, headers, body: (&recorded.body[..]).into() }.encode();
            write("deliveries", &request)?;
            write("explanations", &request)?;
            if configured.provider.name == "braintree" {
                write("forms_and_xml", &recorded.body)?;
                write("forms_and_xml", &hostile::xml::payload(&recorded.body).unwrap_or_default())?;
            }
            let delivery = Delivery { headers: &recorded.headers, body: &recorded.body };
            for item in (configured.provider.normalise)(&delivery, &configured.source, now_unix * 1000) {
                let Item::Event(event) = item else { continue };
                facts.merge(&event);
                let record = Record::event(&event);
                write("frames", &record)?;
                write("frames", &[&begin(7, 64), &record[..], &record[..]].concat())?;
                write("facts", &facts.encode())?;
            }
        }
    }
    for text in
        ["19.99", "-0.5", "2026-11-24T09:00:00.123Z", "eur", "0a1B", "bt_challenge=20f9f8ed05f77439fe955c977e4c8a53"]
    {
        write("texts", text.as_bytes())?;
        write("forms_and_xml", text.as_bytes())?;
    }
    println!("{count} seeds");
    Ok(())
}
