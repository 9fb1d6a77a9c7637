//! HTTP Basic: finds the account whose SID and token a request carries.

use super::options::Account;

/// The account that an `Authorization` header belongs to.
pub fn account_of<'a>(accounts: &'a [Account], authorization: Option<&str>) -> Option<&'a Account> {
    let (scheme, given) = authorization?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    accounts.iter().find(|account| base64(&format!("{}:{}", account.sid, account.token)) == given.trim())
}

fn base64(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    text.as_bytes()
        .chunks(3)
        .flat_map(|chunk| {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            (0..4).map(move |index| {
                let six = usize::try_from(bits >> (18 - 6 * index) & 63).unwrap_or_default();
                if index <= chunk.len() { char::from(ALPHABET[six]) } else { '=' }
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::Options;
    use super::*;

    #[test]
    fn base64_is_the_usual_one() {
        assert_eq!(base64("Aladdin:open sesame"), "QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(base64("ab"), "YWI=");
        assert_eq!(base64("abc"), "YWJj");
    }

    #[test]
    fn only_the_right_token_opens() {
        let accounts = Options::default().accounts;
        let header = |token: &str| format!("basic {}", base64(&format!("IRsandboxBrand0001:{token}")));
        assert!(account_of(&accounts, Some(&header("sandbox-brand-token"))).is_some());
        assert!(account_of(&accounts, Some(&header("wrong"))).is_none());
        assert!(account_of(&accounts, None).is_none());
    }
}
