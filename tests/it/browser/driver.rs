//! A headless Chromium, driven over WebDriver: one process each, ended with the value.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The Tab key, as WebDriver writes it.
pub const TAB: &str = "\u{E004}";
/// The Enter key.
pub const ENTER: &str = "\u{E007}";

/// The browser and the page that it shows.
pub struct Browser {
    driver: Child,
    client: reqwest::Client,
    session: String,
}

impl Browser {
    /// A window 1280 wide, in the light theme.
    pub async fn open() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver; `.ci/browser` installs it");
        let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let told = lines.find(|line| line.contains("started successfully on port")).expect("chromedriver starts");
        let port: u16 = told.trim_end_matches('.').rsplit(' ').next().unwrap().parse().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                                      "--hide-scrollbars", "--window-size=1280,900"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}});
        let mut browser = Self { driver, client, session: format!("http://127.0.0.1:{port}/session") };
        let made = browser.call(Method::POST, "", wanted).await;
        let id = made["sessionId"].as_str().expect("a session").to_owned();
        browser.session = format!("{}/{id}", browser.session);
        browser
    }

    async fn try_call(&self, method: Method, path: &str, body: Value) -> Result<Value, Value> {
        let request = self.client.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::POST { request.json(&body) } else { request };
        let mut answer: Value = request.send().await.unwrap().json().await.unwrap();
        let value = answer["value"].take();
        if value.get("error").is_some() { Err(value) } else { Ok(value) }
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        self.try_call(method, path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn devtools(&self, command: &str, params: Value) {
        self.call(Method::POST, "/goog/cdp/execute", json!({"cmd": command, "params": params})).await;
    }

    /// `light` or `dark`.
    pub async fn prefer(&self, theme: &str) {
        let features = json!([{"name": "prefers-color-scheme", "value": theme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"features": features})).await;
    }

    /// As a screen that is so wide.
    pub async fn widen(&self, width: u32) {
        let screen = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600});
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
    }

    /// Runs no scripts of pages any more.
    pub async fn run_no_scripts(&self) {
        self.devtools("Emulation.setScriptExecutionDisabled", json!({"value": true})).await;
    }

    /// Goes to an address.
    pub async fn go(&self, url: &str) {
        self.call(Method::POST, "/url", json!({"url": url})).await;
    }

    /// Where it is.
    pub async fn url(&self) -> String {
        self.call(Method::GET, "/url", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// What a script returns that we bring along.
    pub async fn run(&self, script: &str) -> Value {
        self.call(Method::POST, "/execute/sync", json!({"script": script, "args": []})).await
    }

    /// What a script hands to its last argument, a function.
    pub async fn run_until_told(&self, script: &str) -> Value {
        self.call(Method::POST, "/execute/async", json!({"script": script, "args": []})).await
    }

    /// Does something with what is found first. A page that was renewed in between is looked at again, as a person would.
    async fn with(&self, found: Value, method: Method, what: &str, body: Value) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let element = self.call(Method::POST, "/element", found.clone()).await;
            let path = format!("/element/{}/{what}", element[ELEMENT].as_str().unwrap());
            match self.try_call(method.clone(), &path, body.clone()).await {
                Ok(value) => return value,
                Err(error) if error["error"] == "stale element reference" && Instant::now() < until => {}
                Err(error) => panic!("{found}: {error}"),
            }
        }
    }

    /// Clicks on what a selector finds first.
    pub async fn click(&self, css: &str) {
        self.with(by_css(css), Method::POST, "click", json!({})).await;
    }

    /// Clicks on the link or button that says this.
    pub async fn click_words(&self, words: &str) {
        let found = json!({"using": "xpath", "value": format!("//*[self::a or self::button or self::summary][normalize-space()='{words}']")});
        self.with(found, Method::POST, "click", json!({})).await;
    }

    /// Types into a field.
    pub async fn fill(&self, css: &str, text: &str) {
        self.with(by_css(css), Method::POST, "value", json!({"text": text})).await;
    }

    /// Presses a key, wherever the focus is.
    pub async fn press(&self, key: &str) {
        let strokes = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        let keyboard = json!({"type": "key", "id": "keyboard", "actions": strokes});
        self.call(Method::POST, "/actions", json!({"actions": [keyboard]})).await;
    }

    /// What a person reads in what a selector finds first.
    pub async fn text(&self, css: &str) -> String {
        let text = self.with(by_css(css), Method::GET, "text", Value::Null).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until the page says this.
    pub async fn wait_for(&self, words: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let element = json!({"using": "css selector", "value": "main"});
            let said = match self.try_call(Method::POST, "/element", element).await {
                Ok(main) => {
                    let path = format!("/element/{}/text", main[ELEMENT].as_str().unwrap());
                    self.try_call(Method::GET, &path, Value::Null).await.unwrap_or_default()
                }
                Err(_) => Value::Null, // between two pages
            };
            let said = said.as_str().unwrap_or_default();
            if said.contains(words) {
                return;
            }
            assert!(Instant::now() < until, "{words}: {said}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Keeps a picture of the whole page under `target/browser/`.
    pub async fn picture(&self, name: &str) {
        let whole = json!({"cmd": "Page.captureScreenshot", "params": {"captureBeyondViewport": true}});
        let taken = self.call(Method::POST, "/goog/cdp/execute", whole).await;
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/browser");
        std::fs::create_dir_all(&directory).unwrap();
        let bytes = base64(taken["data"].as_str().unwrap());
        std::fs::write(directory.join(format!("{name}.png")), bytes).unwrap();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends its browser when it is told to stop, not when it is killed.
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.driver.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.driver.wait();
    }
}

fn by_css(css: &str) -> Value {
    json!({"using": "css selector", "value": css})
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<u32> = text
        .bytes()
        .filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte))
        .map(|digit| u32::try_from(digit).unwrap())
        .collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits = group.iter().fold(0, |bits, digit| (bits << 6) | digit) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
