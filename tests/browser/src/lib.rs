//! Chromium, without a window, driven by WebDriver.
//!
//! A test starts a [`Browser`] and returns if there is none (see [`programs`]). Nothing outlives it: the
//! processes are ended by their ids, and the profile is removed, also when the test panics.

#[path = "../../shared/programs.rs"]
mod programs;

use std::{
    fs::{self, File},
    io,
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::prelude::*;
pub use thirtyfour::{Cookie, Key};

/// The bound of all waits.
const PATIENCE: Duration = Duration::from_secs(30);

const STEP: Duration = Duration::from_millis(20);

/// As root and without a desktop; without calls of its own to the network. The hosts below `.test` (RFC 6761)
/// are this machine, and are not as trustworthy as `localhost`.
const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-breakpad",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP *.test 127.0.0.1",
];

/// A browser with a new profile, and one tab.
pub struct Browser {
    driver: WebDriver,
    // Dropped in this order.
    _chromedriver: Process,
    _chromium: Process,
    _profile: Profile,
}

impl Browser {
    /// Starts a browser; `None` if this machine has none, so that the test is skipped.
    ///
    /// # Panics
    /// If it does not start, or if there is none although `REQUIRE_PROGRAMS` is `1`.
    pub async fn start() -> Option<Self> {
        let chromium = programs::find("chromium", "chromium")?;
        let chromedriver = programs::find("chromedriver", "chromium-driver")?;
        let profile = Profile(tempfile::tempdir().expect("a folder for the profile"));
        let folder = profile.0.path();

        let mut browser = Command::new(chromium);
        browser.args(FLAGS).arg(format!("--user-data-dir={}", folder.display()));
        browser.env("TMPDIR", folder);
        let browser = Process::start(browser.arg("about:blank"), &folder.join("chromium.log"));
        // Its first line is the port.
        let devtools: u16 = number(&folder.join("DevToolsActivePort"), "").await;

        let log = folder.join("chromedriver.log");
        let driver = Process::start(Command::new(chromedriver).arg("--port=0"), &log);
        let port: u16 = number(&log, "started successfully on port ").await;
        Some(Self {
            driver: connect(port, devtools).await,
            _chromedriver: driver,
            _chromium: browser,
            _profile: profile,
        })
    }

    /// Opens a page, and waits until it is loaded.
    pub async fn open(&self, url: &str) {
        self.driver.goto(url).await.expect("the page loads");
    }

    /// The element that a CSS selector finds.
    async fn element(&self, selector: &str) -> WebElement {
        let found = self.driver.find(By::Css(selector)).await;
        found.unwrap_or_else(|error| panic!("no element {selector}: {error}"))
    }

    pub async fn click(&self, selector: &str) {
        self.element(selector).await.click().await.expect("it can be clicked");
    }

    /// The text of an element as it is seen; empty if it is hidden.
    pub async fn text(&self, selector: &str) -> String {
        self.element(selector).await.text().await.expect("it has a text")
    }

    /// Presses keys together, wherever the focus is.
    pub async fn press(&self, keys: &[Key]) {
        let chain = self.driver.action_chain();
        let chain = keys.iter().fold(chain, |chain, key| chain.key_down(key.value()));
        let chain = keys.iter().rev().fold(chain, |chain, key| chain.key_up(key.value()));
        chain.perform().await.expect("keys can be pressed");
    }

    /// The value of an expression of JavaScript, awaited if it is a promise.
    pub async fn evaluate(&self, expression: &str) -> Value {
        let value = self.driver.execute(format!("return {expression}"), Vec::new()).await;
        value.unwrap_or_else(|error| panic!("{expression}: {error}")).json().clone()
    }

    /// Waits until an expression of JavaScript is true.
    ///
    /// # Panics
    /// If it is not within half a minute.
    pub async fn wait_for(&self, condition: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({condition})")).await != Value::Bool(true) {
            if start.elapsed() > PATIENCE {
                let page = self.evaluate("document.body.innerText").await;
                panic!("never true: {condition}\nthe page: {page}\nlog: {:?}", self.log().await);
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Waits until the visible text of an element contains this.
    pub async fn wait_for_text(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let condition = format!("document.querySelector({selector})?.innerText.includes({text})");
        self.wait_for(&condition).await;
    }

    /// What the console got since the last look: also errors of scripts, violations of a content security
    /// policy, and responses that are errors, whose source is `network`.
    pub async fn log(&self) -> Vec<Entry> {
        let entries = self.driver.browser_log().await.expect("the driver has a log");
        let entry = |it: thirtyfour::BrowserLogEntry| Entry {
            source: it.source.unwrap_or_default(),
            message: it.message,
        };
        entries.into_iter().map(entry).collect()
    }

    /// All cookies of the page, also those that scripts cannot read.
    pub async fn cookies(&self) -> Vec<Cookie> {
        self.driver.get_all_cookies().await.expect("the driver lists cookies")
    }

    /// Gives the page this width and color scheme (`light` or `dark`).
    pub async fn resize(&self, width: u32, scheme: &str) {
        let size =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (method, parameters) in
            [("Emulation.setDeviceMetricsOverride", size), ("Emulation.setEmulatedMedia", scheme)]
        {
            let done = self.driver.cdp().send_raw(method, parameters).await;
            done.unwrap_or_else(|error| panic!("{method}: {error}"));
        }
        self.wait_for(&format!("innerWidth === {width}")).await;
    }
}

/// A line of the browser's console.
#[derive(Debug)]
pub struct Entry {
    /// What wrote it: `console-api`, `javascript`, `network`, `security`, …
    pub source: String,
    /// The address, the line, and the text.
    pub message: String,
}

/// Opens a session of WebDriver with the browser that listens on this port.
async fn connect(chromedriver: u16, devtools: u16) -> WebDriver {
    let mut capabilities = DesiredCapabilities::chrome();
    let set = capabilities.set_debugger_address(&format!("127.0.0.1:{devtools}"));
    set.and_then(|()| capabilities.set_browser_log_level(thirtyfour::LoggingPrefsLogLevel::All))
        .expect("capabilities");
    let driver = WebDriver::builder(format!("http://127.0.0.1:{chromedriver}"), capabilities)
        .connect()
        .await
        .expect("a session of WebDriver");
    // It ends with its processes. Its destructor would block to say so to them.
    driver.clone().leak().expect("the session has just begun");
    driver
}

/// The number after `mark` in a file, once a line end or the file's end follows it.
async fn number<T: FromStr>(file: &Path, mark: &str) -> T {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(file).unwrap_or_default();
        if let Some((_, rest)) = text.split_once(mark)
            && let Some(end) = rest.find(|it: char| !it.is_ascii_digit())
            && let Ok(number) = rest[..end].parse()
        {
            return number;
        }
        assert!(start.elapsed() < PATIENCE, "{} has no number: {text}", file.display());
        tokio::time::sleep(STEP).await;
    }
}

/// A folder that is removed when this is dropped.
struct Profile(TempDir);

impl Drop for Profile {
    /// Processes of Chromium that end after it still write files while others are removed.
    fn drop(&mut self) {
        let start = Instant::now();
        while fs::remove_dir_all(self.0.path()).is_err() && self.0.path().exists() {
            if start.elapsed() > PATIENCE {
                return;
            }
            thread::sleep(STEP);
        }
    }
}

/// A process that ends when this is dropped.
struct Process(Child);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Self {
        let mut start = || -> io::Result<Child> {
            let log = File::create(log)?;
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
        };
        Self(start().expect("the program starts"))
    }
}

impl Drop for Process {
    /// Chromium gets the time to end its own processes, which would go on to write into the profile.
    fn drop(&mut self) {
        let id = i32::try_from(self.0.id()).map(Pid::from_raw);
        // An error means that it has ended.
        let asked = id.is_ok_and(|id| kill(id, Signal::SIGTERM).is_ok());
        let start = Instant::now();
        while asked && start.elapsed() < PATIENCE && matches!(self.0.try_wait(), Ok(None)) {
            thread::sleep(STEP);
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
