//! `healthcheck`: asks the daemon of the same configuration how it does, for images that have no `curl`.

use std::path::Path;

use super::Exit;
use crate::config;
use crate::http;

pub(super) async fn healthcheck(config: Option<&Path>) -> anyhow::Result<Exit> {
    let settings = config::load(config)?;
    match http::ask(settings.http.listen).await {
        Ok(words) => {
            say_as_is!("{words}");
            Ok(Exit::Done)
        }
        Err(why) => {
            eprintln!("{}", why.trim_end());
            Ok(Exit::Failed)
        }
    }
}
