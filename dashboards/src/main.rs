//! Writes the dashboards where Grafana's provisioning finds them.

use std::path::Path;
use std::{fs, io};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    fs::create_dir_all(&folder)?;
    for (name, text) in dashboards::files() {
        fs::write(folder.join(&name), text)?;
        println!("{name}");
    }
    Ok(())
}
