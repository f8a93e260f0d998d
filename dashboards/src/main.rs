//! Writes the dashboards where Grafana's provisioning finds them, or draws the Overview as it is now.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

use dashboards::picture::{Prometheus, draw};

const HELP: &str = "\
Usage: cargo run -p dashboards                                    write the dashboards' JSON
       cargo run -p dashboards -- picture URL [MINUTES] > o.svg   draw the Overview of the last minutes (default 5)

Example, after `cargo demo --seconds 180 --keep`:
       cargo run -p dashboards -- picture http://127.0.0.1:9090 3 > docs/overview.svg";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        [] => write_files(),
        ["picture", url] => picture(url, 5.0),
        ["picture", url, minutes] => match minutes.parse() {
            Ok(minutes) => picture(url, minutes),
            Err(_) => Err(io::Error::other(format!("{minutes} is not a number of minutes"))),
        },
        _ => Err(io::Error::other(HELP)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn write_files() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    fs::create_dir_all(&folder)?;
    for (name, text) in dashboards::files() {
        fs::write(folder.join(&name), text)?;
        println!("{name}");
    }
    Ok(())
}

fn picture(url: &str, minutes: f64) -> io::Result<()> {
    let overview = dashboards::all().into_iter().next().ok_or_else(|| io::Error::other("no dashboard"))?;
    print!("{}", draw(&overview, &Prometheus::last(url, minutes)?)?);
    Ok(())
}
