use proptest::prelude::*;

use super::*;
use crate::model::oauth::Consent;
use crate::model::{MiniAppId, Scope};

const NOW: u64 = 1_000_000;
const VERIFIER: Digest = Digest([7; 32]);
const CODE: Digest = Digest([8; 32]);
/// The last revocation before the grant.
const KNOWN: u64 = 7;

fn client() -> ClientId {
    ClientId::of(MiniAppId::parse("ma_shop").unwrap())
}

fn consent() -> Consent {
    Consent {
        client: client(),
        redirect: "https://shop.example/cb".to_owned(),
        state: None,
        scopes: ScopeSet::of(&[Scope::WalletBalance, Scope::StorageRead]),
        challenge: Challenge::parse(&VERIFIER.to_string()).unwrap(),
        user: None,
        asked_at: NOW,
    }
}

fn grant() -> Grant {
    let user = UserId::parse("@alice:tween.example").unwrap();
    consent().identified(user).unwrap().approved(ScopeSet::of(Scope::ALL), CODE, NOW, KNOWN).unwrap()
}

fn by(client: &ClientId) -> Redeemer<'_> {
    Redeemer { client, redirect: "https://shop.example/cb", verifier: VERIFIER, code: CODE, arrived_at: NOW }
}

#[test]
fn a_question_is_its_users_and_gives_no_more_than_was_asked() {
    assert_eq!(consent().approved(ScopeSet::of(Scope::ALL), CODE, NOW, KNOWN), None, "nobody has said who they are");
    let alices = consent().identified(UserId::parse("@alice:tween.example").unwrap()).unwrap();
    assert_eq!(alices.identified(UserId::parse("@mallory:tween.example").unwrap()), None);
    assert_eq!(grant().scopes, consent().scopes);
}

#[test]
fn a_code_is_its_clients_alone() {
    let ours = client();
    let other = ClientId::of(MiniAppId::parse("ma_other").unwrap());
    for wrong in [
        by(&other),
        Redeemer { redirect: "https://shop.example/cb2", ..by(&ours) },
        Redeemer { verifier: Digest([9; 32]), ..by(&ours) },
        Redeemer { code: Digest([9; 32]), ..by(&ours) },
    ] {
        assert!(matches!(grant().redeemed(&wrong, Digest([1; 32]), NOW), Redeemed::Refused(_)), "{wrong:?}");
    }
}

#[test]
fn a_second_use_tells_a_race_from_a_theft() {
    let ours = client();
    let Redeemed::Done(grant) = grant().redeemed(&by(&ours), Digest([1; 32]), NOW + 5) else { panic!("redeemed") };
    let again = |arrived_at| grant.clone().redeemed(&Redeemer { arrived_at, ..by(&ours) }, Digest([2; 32]), NOW + 9);
    // Another instance's clock may be ahead of the one that redeemed it, and a body may have been slow to come.
    for near in [NOW + 5, NOW + 5 + RACE, NOW + 5 - ARRIVED] {
        assert_eq!(again(near), Redeemed::Raced);
    }
    for far in [NOW + 6 + RACE, NOW + 4 - ARRIVED] {
        assert_eq!(again(far), Redeemed::Reused);
    }
    let thief = Redeemer { verifier: Digest([9; 32]), arrived_at: NOW + 6 + RACE, ..by(&ours) };
    assert!(matches!(grant.redeemed(&thief, Digest([2; 32]), NOW + 9), Redeemed::Refused(_)), "no verifier, no harm");
}

#[test]
fn a_permission_to_nothing_is_none() {
    let storage = grant().without(ScopeSet::of(&[Scope::WalletBalance]));
    assert_eq!(storage, None, "what every mini-app has is nothing that a user permits");
    let rest = grant().without(ScopeSet::of(&[Scope::StorageRead])).unwrap();
    assert_eq!(rest, Grant { scopes: ScopeSet::of(&[Scope::WalletBalance]), ..grant() });
}

#[test]
fn what_a_back_end_fetched_is_its_own() {
    let front = client();
    let backend = ClientId { backend: true, ..client() };
    let Redeemed::Done(fetched) = grant().redeemed(&by(&backend), Digest([1; 32]), NOW) else { panic!("redeemed") };
    assert_eq!(fetched.client, backend);
    let again = Redeemer { arrived_at: NOW + 1 + RACE, ..by(&front) };
    assert_eq!(fetched.redeemed(&again, Digest([2; 32]), NOW + 1), Redeemed::Reused, "it had code and verifier");
    let asked = Grant { client: backend, ..grant() };
    assert!(matches!(asked.redeemed(&by(&front), Digest([1; 32]), NOW), Redeemed::Refused(_)), "without the secret");
}

#[test]
fn a_grant_lives_as_long_as_its_code_then_its_refresh_token_and_no_longer_than_its_end() {
    let (minute, day) = (Duration::from_secs(60), Duration::from_secs(86_400));
    assert_eq!(grant().life(minute, day, NOW + 20_000), Duration::from_secs(40));
    let begun = grant().begun(Digest([1; 32]), NOW + 30_000);
    assert_eq!(begun.life(minute, day, NOW + 30_000), day);
    let ends = Grant { ends_at: Some(NOW + 40_000), ..begun };
    assert_eq!(ends.life(minute, day, NOW + 30_000), Duration::from_secs(10));
    assert_eq!(ends.life(minute, day, NOW + 50_000), Duration::from_millis(1));
}

#[test]
fn grant_ids_read_back() {
    let id = GrantId([0x0f; 16]);
    assert_eq!(GrantId::parse(&id.to_string()), Some(id));
    for bad in ["", "0f", "+f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", "0F0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"] {
        assert_eq!(GrantId::parse(bad), None, "{bad}");
    }
}

proptest! {
    /// Whatever is rotated when: one token is in force, and the one before it may be repeated, for a minute by who has authenticated.
    #[test]
    fn one_refresh_token_is_in_force(waits in prop::collection::vec(1u64..200_000, 1..20)) {
        let hash = |at: usize| Digest([u8::try_from(at).unwrap(); 32]);
        let (mut grant, mut now) = (grant().begun(hash(0), NOW), NOW);
        for (at, wait) in waits.iter().enumerate() {
            now += wait;
            grant = grant.rotated(hash(at + 1), now);
            let family = grant.family.clone().unwrap();
            prop_assert_eq!(family.presented(hash(at + 1), true, now), Presented::Current);
            for (proven, within) in [(true, REPEAT_WITHIN), (false, REPEAT_WITHIN_UNPROVEN)] {
                prop_assert_eq!(family.presented(hash(at), proven, now + within - 1), Presented::Repeated);
                prop_assert_eq!(family.presented(hash(at), proven, now + within), Presented::Other);
            }
            if at > 0 {
                prop_assert_eq!(family.presented(hash(at - 1), true, now), Presented::Other);
            }
        }
    }
}
