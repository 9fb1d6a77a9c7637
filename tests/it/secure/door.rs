//! Where the real daemon listens, and what it says of that.

use std::time::Duration;

use crate::support::daemon::{Scene, still};

const WARNING: &str = "http.listen is no loopback address";

#[tokio::test]
async fn listening_to_all_the_world_is_warned_of() {
    let scene = Scene::new(still(Duration::from_millis(40))).await;
    let quiet = scene.run();
    quiet.url().await;
    assert!(!quiet.log().contains(WARNING), "{}", quiet.log());
    drop(quiet);
    scene.edit_config(|text| text.replace("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:0\""));
    let open = scene.run();
    open.until_says(WARNING).await;
}
