//! The reconciler's status page in a real browser, under load. `WRITE_DOCS=1 cargo test -p it the_status_page_shows` takes
//! the picture in docs/; `SCREENSHOTS=folder` keeps one of every width and scheme.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use it::{eventually, post, send, services_up};
use serde_json::Value;

use crate::faults::{Programs, check};
use crate::support::World;
use crate::webdriver::{Browser, ENTER, TAB};

/// Long enough for all that is done meanwhile.
const LOAD_SECONDS: u32 = 20;
/// An order reference that would run where it is taken for markup.
const HOSTILE: &str = "<script>document.title='owned'</script>";
const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/status.png");
const PICTURE_BYTES_MAX: usize = 200 * 1024;

/// A figure of the page as a number; what is not known is an error.
async fn figure(browser: &Browser, id: &str) -> Result<f64> {
    let text = browser.text(&format!("#{id} .figure")).await?;
    let digits: String = text.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    digits.parse().with_context(|| format!("{id} shows {text:?}"))
}

/// How much the text of an element stands out from what is behind it (WCAG 2, 1 to 21).
const CONTRAST: &str = "
    const parse = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            if (colour.length < 4 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
    };
    const poor = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!own || !element.checkVisibility() || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(element.tagName)) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < 4.5) poor.push(`${element.textContent}: ${ratio.toFixed(2)}`);
    }
    return poor";

async fn save(browser: &Browser, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("SCREENSHOTS") else { return Ok(()) };
    let picture = STANDARD.decode(browser.screenshot().await?)?;
    Ok(std::fs::write(std::path::Path::new(&folder).join(name), picture)?)
}

/// Every width and scheme: nothing wider than the screen, text that can be read, another background in the dark.
async fn looks(browser: &Browser) -> Result<()> {
    let mut backgrounds = Vec::new();
    for scheme in ["light", "dark"] {
        for width in [360, 1280, 1600] {
            browser.look(width, 1000, scheme).await?;
            let scroll = browser.run("return document.documentElement.scrollWidth").await?;
            ensure!(scroll.as_u64() == Some(u64::from(width)), "at {width} the page is {scroll} wide");
            let poor = browser.run(CONTRAST).await?;
            ensure!(poor.as_array().is_some_and(Vec::is_empty), "hard to read in {scheme} at {width}: {poor:#}");
            let height = browser.run("return document.documentElement.scrollHeight").await?.as_u64().unwrap_or(0);
            browser.look(width, u32::try_from(height)?, scheme).await?;
            save(browser, &format!("{scheme}-{width}.png")).await?;
        }
        backgrounds.push(browser.run("return getComputedStyle(document.body).backgroundColor").await?);
    }
    ensure!(backgrounds[0] != backgrounds[1], "dark is as light: {backgrounds:?}");
    browser.look(1280, 1000, "light").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_shows_the_load_finds_an_order_by_keyboard_and_says_what_is_away() -> Result<()> {
    let _services = services_up().await;
    let mut programs = Programs::start("status").await?;
    let config = programs.config().clone();
    let world = World::new(config.clone()).await?;
    for reference in [HOSTILE, "A-1001"] {
        let insert = "INSERT INTO orders (reference, total, currency) VALUES ($1, 19.99, 'EUR')";
        sqlx::query(insert).bind(reference).execute(&world.postgres).await?;
    }
    for (id, kind, payment, order, minor) in [
        ("m1", "payment.authorized", "pay-1", HOSTILE, 1999),
        ("m2", "payment.captured", "pay-1", HOSTILE, 1999),
        ("m3", "payment.captured", "pay-2", "A-1001", 1000),
        ("m4", "payment.captured", "pay-3", "nobody-1", 500),
    ] {
        let body = it::event_body(kind, payment, Some(order), minor, &format!("tx-{id}"));
        let posted = post(config.ingest.listen, id, &body).await?;
        ensure!(posted.status == 200, "{posted:?}");
    }
    let load = programs.load(LOAD_SECONDS);
    let browser = Browser::start("status").await?;
    browser.look(1280, 1000, "light").await?;
    browser.open(&format!("http://{}/", config.reconciler.internal_listen)).await?;

    eventually("all stages show their rates", async || {
        for id in ["accepted", "stored", "applied"] {
            ensure!(figure(&browser, id).await? > 50.0, "{id}");
        }
        figure(&browser, "write").await?;
        figure(&browser, "reconcile").await?;
        let ack = browser.text("#accepted .note").await?;
        ensure!(ack.starts_with("2xx: p50 ") && ack.contains("ms"), "{ack}");
        let verdict = browser.text("#verdict").await?;
        ensure!(!verdict.contains("does not answer") && !verdict.contains("cannot use"), "{verdict}");
        let programs = browser.run("return document.querySelector('#programs').textContent").await?.to_string();
        ensure!(programs.matches("ready").count() == 3 && programs.contains("Postgres: yes"), "{programs}");
        Ok(())
    })
    .await?;

    // By keyboard only, from the page's start: past the skip link to the field.
    browser.keys(TAB).await?;
    browser.keys(TAB).await?;
    browser.keys(HOSTILE).await?;
    browser.keys(ENTER).await?;
    eventually("both events are shown as applied", async || {
        let said = browser.text("#said").await?;
        if said.contains("applied.") && !said.contains("2 applied") {
            browser.keys(ENTER).await?;
        }
        ensure!(said == format!("Order {HOSTILE} is paid: 1 payment, 2 events, 2 applied."), "{said}");
        Ok(())
    })
    .await?;
    let result = browser.text("#result").await?;
    for shown in [HOSTILE, "captured EUR 19.99", "applied in Postgres", "all 2", "pay-1", "→ paid"] {
        ensure!(result.replace('\u{a0}', " ").contains(shown), "no {shown:?} in {result}");
    }
    let stored =
        browser.run("return document.querySelectorAll('#result tbody td[data-label=Stored] time').length").await?;
    ensure!(stored == 2, "{stored} events have the time at which they were stored");
    ensure!(browser.run("return document.title").await? == "Tollgate status", "markup was run");
    ensure!(browser.run("return document.querySelectorAll('#result script').length").await? == 0);

    // As a screen reader is told.
    for (selector, role, name) in [
        ("main", "main", ""),
        ("header", "banner", ""),
        ("#form", "search", "Look up a payment or an order"),
        ("#find", "textbox", "Order reference or payment id"),
        ("#form button", "button", "Look up"),
        ("#verdict", "status", ""),
        ("main > section", "region", "From webhook to order"),
        ("#programs th", "rowheader", ""),
        ("#programs td", "cell", ""),
        ("#result table", "table", "Events"),
        (".two .stack", "table", "Programs"),
    ] {
        let (found_role, found_name) = browser.role_and_name(selector).await?;
        ensure!(found_role == role, "{selector} has role {found_role}");
        ensure!(name.is_empty() || found_name == name, "{selector} has the name {found_name:?}");
    }
    looks(&browser).await?;

    // A payment by its provider's own id, from an address that somebody sent; it is parked.
    browser.run("location.hash = '#find=pay-3'").await?;
    eventually("the parked event is shown", async || {
        let result = browser.text("#result").await?;
        ensure!(result.contains("1 event waits for an order") && result.contains("captured"), "{result}");
        Ok(())
    })
    .await?;
    save(&browser, "parked.png").await?;
    browser.run("location.hash = '#find=A-1001'").await?;
    eventually("the difference is shown", async || {
        let result = browser.text("#result").await?.replace('\u{a0}', " ");
        ensure!(result.contains("expected EUR 19.99, is EUR 10.00"), "{result}");
        Ok(())
    })
    .await?;
    if std::env::var_os("WRITE_DOCS").is_some() {
        browser.run("scrollTo(0, 0)").await?;
        browser.look(1280, 1100, "light").await?;
        let picture = STANDARD.decode(browser.screenshot().await?)?;
        ensure!(picture.len() < PICTURE_BYTES_MAX, "{} bytes", picture.len());
        std::fs::write(PICTURE, picture)?;
    }
    eventually("the parked event is counted", async || {
        ensure!(figure(&browser, "parked").await? > 0.0);
        Ok(())
    })
    .await?;
    browser.run("location.hash = '#find=nothing-of-this'").await?;
    eventually("an unknown reference is said", async || {
        ensure!(browser.text("#said").await?.starts_with("Nothing is known under “nothing-of-this”."));
        Ok(())
    })
    .await?;
    check(&load.await??)?;

    programs.end("writer", "TERM").await?;
    eventually("the writer is said to be away, and its rate is not a zero", async || {
        let verdict = browser.text("#verdict").await?;
        ensure!(verdict.starts_with("Writer at ") && verdict.contains("does not answer"), "{verdict}");
        ensure!(browser.text("#stored .figure").await? == "–", "a rate of what does not answer");
        ensure!(browser.text("#stored .note").await? == "not known: no writer answers");
        ensure!(browser.text("#programs").await?.contains("refuses connections"));
        Ok(())
    })
    .await?;
    save(&browser, "no-writer.png").await?;
    programs.start_again("writer").await?;
    eventually("all is well again", async || {
        let verdict = browser.text("#verdict").await?;
        ensure!(!verdict.contains("does not answer"), "{verdict}");
        Ok(())
    })
    .await?;

    // What was not found is an error in the browser's words; all else must be silent.
    let console = browser.console().await?;
    let wrong: Vec<&Value> = console.iter().filter(|line| line["source"] != "network").collect();
    ensure!(wrong.is_empty(), "the console says {wrong:#?}");

    programs.end("reconciler", "TERM").await?;
    eventually("silence is said", async || {
        let updated = browser.text("#updated").await?;
        ensure!(updated.starts_with("no answer since "), "{updated}");
        ensure!(browser.text("#verdict").await?.contains("The figures are old."));
        Ok(())
    })
    .await?;
    let poor = browser.run(CONTRAST).await?;
    ensure!(poor.as_array().is_some_and(Vec::is_empty), "hard to read while it is silent: {poor:#}");
    save(&browser, "stale.png").await?;
    browser.quit().await?;
    programs.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_page_tells_browsers_what_they_may_do_and_strangers_nothing() -> Result<()> {
    let _services = services_up().await;
    let programs = Programs::start("status_http").await?;
    let internal = programs.config().reconciler.internal_listen;
    let get = async |path: &str, host: &str| send(internal, "GET", path, &[("host", host)], b"").await;
    let page = get("/", "localhost").await?;
    ensure!(page.status == 200 && page.body.starts_with("<!doctype html>"), "{page:?}");
    for line in [
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
    ] {
        ensure!(page.head.contains(line), "no {line} in {}", page.head);
    }
    ensure!(!page.head.contains("unsafe-inline") && !page.head.contains("access-control"), "{}", page.head);
    for (path, host, status) in [
        ("/api/status", "localhost", 200),
        ("/api/status", "rebound.example.com", 421),
        ("/", "rebound.example.com", 421),
        ("/api/orders/nobody", "localhost", 404),
        ("/api/payments/%00", "localhost", 400),
        ("/api/payments/%27%20OR%201%3D1", "localhost", 404),
        ("/api/elsewhere", "localhost", 404),
        ("/metrics", "rebound.example.com", 200),
    ] {
        let answer = get(path, host).await?;
        ensure!(answer.status == status, "{path} at {host}: {answer:?}");
    }
    let long = format!("/api/orders/{}", "x".repeat(256));
    ensure!(get(&long, "localhost").await?.status == 400);
    for method in ["POST", "PUT", "DELETE"] {
        let answer = send(internal, method, "/api/status", &[], b"").await?;
        ensure!(answer.status == 405, "{method}: {answer:?}");
    }

    // Many viewers are one look at the programs: the gateway's own metrics count no more than one a second.
    let started = std::time::Instant::now();
    let asked = futures_util::future::try_join_all((0..40).map(|_| get("/api/status", "localhost"))).await?;
    let distinct: std::collections::BTreeSet<&str> = asked.iter().map(|answer| answer.body.as_str()).collect();
    let seconds = started.elapsed().as_secs();
    ensure!(distinct.len() as u64 <= seconds + 2, "{} looks in {seconds} s", distinct.len());
    programs.clean().await
}
