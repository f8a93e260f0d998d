//! A headless Chromium, driven through Debian's `chromedriver` by plain WebDriver: JSON over HTTP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{eventually, send};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Where WebDriver puts an element's id (its specification fixes this name).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// WebDriver's names of keys.
pub const TAB: &str = "\u{E004}";
pub const ENTER: &str = "\u{E007}";

/// One browser with one page. It ends with its driver, which is ended when this is dropped.
pub struct Browser {
    driver: SocketAddr,
    session: String,
    folder: PathBuf,
    _driver: Child,
}

impl Browser {
    pub async fn start(name: &str) -> Result<Self> {
        let driver = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
            listener.local_addr()?
        };
        let child = Command::new("chromedriver")
            .arg(format!("--port={}", driver.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("no chromedriver: apt-get install chromium chromium-driver")?;
        let folder = std::env::temp_dir().join(format!("{name}-{}", uuid::Uuid::new_v4().simple()));
        let mut browser = Self { driver, session: String::new(), folder, _driver: child };
        eventually("chromedriver is ready", async || {
            ensure!(browser.ask("GET", "/status", &Value::Null).await?["ready"] == true);
            Ok(())
        })
        .await?;
        // Containers have no sandbox and little shared memory; the page is our own.
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-gpu".to_owned(),
            "--hide-scrollbars".to_owned(),
            "--lang=en-GB".to_owned(),
            format!("--user-data-dir={}", browser.folder.display()),
        ];
        let capabilities = json!({"browserName": "chrome", "goog:chromeOptions": {"args": arguments},
                                  "goog:loggingPrefs": {"browser": "ALL"}});
        let started = browser.ask("POST", "/session", &json!({"capabilities": {"alwaysMatch": capabilities}})).await?;
        let session = started["sessionId"].as_str().context("no session")?;
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let host = self.driver.to_string();
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let headers = [("host", host.as_str()), ("content-type", "application/json")];
        let answer = send(self.driver, method, path, &headers, &body).await?;
        let value: Value = serde_json::from_str(&answer.body).with_context(|| format!("{path}: {answer:?}"))?;
        ensure!(answer.status == 200, "{method} {path}: {value}");
        Ok(value["value"].clone())
    }

    async fn post(&self, command: &str, body: Value) -> Result<Value> {
        self.ask("POST", &format!("{}/{command}", self.session), &body).await
    }

    async fn get(&self, command: &str) -> Result<Value> {
        self.ask("GET", &format!("{}/{command}", self.session), &Value::Null).await
    }

    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("url", json!({ "url": url })).await.map(drop)
    }

    /// What a function's body returns in the page.
    pub async fn run(&self, script: &str) -> Result<Value> {
        self.post("execute/sync", json!({"script": script, "args": []})).await
    }

    /// The rendered text of the first element that a selector finds.
    pub async fn text(&self, selector: &str) -> Result<String> {
        let text = self.run(&format!("return document.querySelector({selector:?}).innerText")).await?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Role and name of an element as a screen reader is told.
    pub async fn role_and_name(&self, selector: &str) -> Result<(String, String)> {
        let found = self.post("element", json!({"using": "css selector", "value": selector})).await?;
        let element = found[ELEMENT].as_str().context("no element")?;
        let role = self.get(&format!("element/{element}/computedrole")).await?;
        let name = self.get(&format!("element/{element}/computedlabel")).await?;
        Ok((role.as_str().unwrap_or_default().to_owned(), name.as_str().unwrap_or_default().to_owned()))
    }

    /// Presses keys one after another, wherever the focus is.
    pub async fn keys(&self, keys: &str) -> Result<()> {
        let presses: Vec<Value> = keys
            .chars()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key.to_string()})))
            .collect();
        self.post("actions", json!({"actions": [{"type": "key", "id": "keyboard", "actions": presses}]}))
            .await
            .map(drop)
    }

    /// A command of the browser's own protocol.
    pub async fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        self.post("goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    /// Shows the page as a screen of this width with this colour scheme would.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let screen = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await?;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await.map(drop)
    }

    /// The screen as a PNG in base64.
    pub async fn screenshot(&self) -> Result<String> {
        let taken = self.get("screenshot").await?;
        Ok(taken.as_str().context("no picture")?.to_owned())
    }

    /// What the page's console said since it was last asked.
    pub async fn console(&self) -> Result<Vec<Value>> {
        let lines = self.post("se/log", json!({"type": "browser"})).await?;
        Ok(lines.as_array().cloned().unwrap_or_default())
    }

    /// Ends the browser.
    pub async fn quit(self) -> Result<()> {
        self.ask("DELETE", &self.session, &Value::Null).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _left_over = std::fs::remove_dir_all(&self.folder);
        Ok(())
    }
}
