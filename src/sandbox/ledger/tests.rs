//! Money is conserved, whatever anybody does in whatever order.

use proptest::prelude::*;

use super::*;

const NOON: Millis = Millis(1_700_000_000_000);

fn user(number: u8) -> UserId {
    UserId::parse(&format!("@user{number}:tween.example")).unwrap()
}

fn shop() -> MiniAppId {
    MiniAppId::parse("ma_shop_001").unwrap()
}

fn ledger() -> Ledger {
    Ledger::new(Rules::demo("tween.example"), Sequence::seeded(7))
}

fn transfer_order(sender: u8, recipient: u8, amount: Money) -> TransferOrder {
    let (sender, recipient) = (user(sender), user(recipient));
    TransferOrder { sender, recipient, amount, currency: "USD".to_owned(), note: None, room: None }
}

fn payment_order(payer: u8, amount: Money) -> PaymentOrder {
    PaymentOrder {
        payer: user(payer),
        merchant: shop(),
        amount,
        currency: "USD".to_owned(),
        description: None,
        merchant_order_id: None,
        items: None,
        room: None,
    }
}

fn gift_order(sender: u8, kind: GiftKind, total: Money) -> GiftOrder {
    let sender = user(sender);
    GiftOrder { sender, kind, total, currency: "USD".to_owned(), message: None, room: None, expires_in_secs: 3600 }
}

fn available(ledger: &mut Ledger, number: u8) -> Money {
    ledger.account(&user(number), NOON).unwrap().available
}

#[derive(Clone, Debug)]
enum Step {
    Transfer(u8, u8, i64),
    Confirm(usize, u8),
    Accept(usize, u8),
    Reject(usize, u8),
    Give(u8, u32, bool, i64),
    Open(usize, u8),
    Request(u8, i64),
    Authorize(usize),
    Verify(usize, bool),
    Refund(usize, Option<i64>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Step> {
    let amount = prop_oneof![-5i64..100, 1i64..6_000_000];
    let (who, which) = (0u8..4, 0usize..6);
    prop_oneof![
        (who.clone(), who.clone(), amount.clone()).prop_map(|(a, b, m)| Step::Transfer(a, b, m)),
        (which.clone(), who.clone()).prop_map(|(i, a)| Step::Confirm(i, a)),
        (which.clone(), who.clone()).prop_map(|(i, a)| Step::Accept(i, a)),
        (which.clone(), who.clone()).prop_map(|(i, a)| Step::Reject(i, a)),
        (who.clone(), 0u32..6, any::<bool>(), amount.clone()).prop_map(|(a, n, l, m)| Step::Give(a, n, l, m)),
        (which.clone(), who.clone()).prop_map(|(i, a)| Step::Open(i, a)),
        (who.clone(), amount.clone()).prop_map(|(a, m)| Step::Request(a, m)),
        which.clone().prop_map(Step::Authorize),
        (which.clone(), any::<bool>()).prop_map(|(i, right)| Step::Verify(i, right)),
        (which, proptest::option::of(amount)).prop_map(|(i, m)| Step::Refund(i, m)),
        (0u64..100_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn money_is_conserved(steps in proptest::collection::vec(steps(), 1..60)) {
        let (mut ledger, mut now) = (ledger(), NOON);
        let (mut transfers, mut gifts, mut payments) = (Vec::new(), Vec::new(), Vec::new());
        for step in steps {
            ledger.settle_deadlines(now);
            let id = |ids: &[String], at: usize| ids.get(at).cloned().unwrap_or_default();
            // Refusals are part of the walk: they must leave the books as they were too.
            match step {
                Step::Transfer(a, b, m) => {
                    transfers.extend(ledger.transfer(transfer_order(a, b, Money::minor(m)), now).map(|t| t.id));
                }
                Step::Confirm(i, a) => drop(ledger.confirm_transfer(&id(&transfers, i), &user(a), now)),
                Step::Accept(i, a) => drop(ledger.accept_transfer(&id(&transfers, i), &user(a), now)),
                Step::Reject(i, a) => drop(ledger.reject_transfer(&id(&transfers, i), &user(a), now)),
                Step::Give(a, n, luck, m) => {
                    let kind = match (n, luck) {
                        (0, _) => GiftKind::Individual(user(3)),
                        (n, true) => GiftKind::Random(n),
                        (n, false) => GiftKind::Equal(n),
                    };
                    gifts.extend(ledger.give(gift_order(a, kind, Money::minor(m)), now).map(|g| g.id));
                }
                Step::Open(i, a) => drop(ledger.open_gift(&id(&gifts, i), &user(a), now)),
                Step::Request(a, m) => {
                    payments.extend(ledger.request_payment(payment_order(a, Money::minor(m)), now).map(|p| p.id));
                }
                Step::Authorize(i) => drop(ledger.authorize(&id(&payments, i), now)),
                Step::Verify(i, right) => {
                    let payment = id(&payments, i);
                    let challenge = ledger.challenge(&payment).map(|(_, challenge)| challenge.clone());
                    if let Ok(challenge) = challenge {
                        let pin = if right { DEMO_PIN } else { "0000" };
                        drop(ledger.verify_factor(&payment, &challenge.id, Factor::Pin(pin), now));
                    }
                }
                Step::Refund(i, m) => drop(ledger.refund(&id(&payments, i), &shop(), m.map(Money::minor), now)),
                Step::Wait(secs) => now = now.plus_secs(secs),
            }
            prop_assert_eq!(ledger.total(), ledger.opened());
            for account in ledger.accounts.values() {
                prop_assert!(account.available >= Money::ZERO && account.held >= Money::ZERO);
                prop_assert!(account.sent_today(now) <= ledger.rules.daily_limit);
            }
        }
        // Once everything has run out of time, nothing is held any more.
        ledger.settle_deadlines(now.plus_secs(100 * 86_400));
        prop_assert!(ledger.accounts.values().all(|account| account.held == Money::ZERO));
        prop_assert_eq!(ledger.total(), ledger.opened());
    }
}

#[test]
fn an_accepted_transfer_changes_both_sides() {
    let mut ledger = ledger();
    let transfer = ledger.transfer(transfer_order(0, 1, Money::whole(50)), NOON).unwrap();
    assert_eq!(transfer.state, TransferState::PendingRecipientAcceptance);
    assert_eq!(ledger.account(&user(0), NOON).unwrap().held, Money::whole(50));
    ledger.accept_transfer(&transfer.id, &user(1), NOON).unwrap();
    ledger.accept_transfer(&transfer.id, &user(1), NOON).unwrap();
    assert_eq!((available(&mut ledger, 0), available(&mut ledger, 1)), (Money::whole(249_950), Money::whole(250_050)));
    assert_eq!(ledger.account(&user(1), NOON).unwrap().history.len(), 1);
}

#[test]
fn a_large_transfer_waits_for_its_sender() {
    let mut ledger = ledger();
    let transfer = ledger.transfer(transfer_order(0, 1, Money::whole(10_001)), NOON).unwrap();
    assert_eq!(transfer.state, TransferState::Initiated);
    let early = ledger.accept_transfer(&transfer.id, &user(1), NOON).unwrap_err();
    assert_eq!(early, Refused::WrongState { what: "transfer", state: "initiated" });
    assert_eq!(ledger.confirm_transfer(&transfer.id, &user(1), NOON).unwrap_err(), Refused::NotFound("transfer"));
    ledger.confirm_transfer(&transfer.id, &user(0), NOON).unwrap();
    ledger.accept_transfer(&transfer.id, &user(1), NOON).unwrap();
}

#[test]
fn a_transfer_that_nobody_accepts_comes_back() {
    let mut ledger = ledger();
    let transfer = ledger.transfer(transfer_order(0, 1, Money::whole(50)), NOON).unwrap();
    let late = NOON.plus_secs(24 * 3600);
    ledger.settle_deadlines(late);
    assert_eq!(available(&mut ledger, 0), Money::whole(250_000));
    assert_eq!(ledger.accept_transfer(&transfer.id, &user(1), late).unwrap_err(), Refused::TransferExpired);
}

#[test]
fn limits_and_strangers() {
    let mut ledger = ledger();
    let over = ledger.transfer(transfer_order(0, 1, Money::whole(50_001)), NOON).unwrap_err();
    assert_eq!(over.code().0, "PAYMENT_FAILED");
    for _ in 0..2 {
        ledger.transfer(transfer_order(0, 1, Money::whole(50_000)), NOON).unwrap();
    }
    let daily = ledger.transfer(transfer_order(0, 1, Money::minor(1)), NOON).unwrap_err();
    assert!(matches!(daily, Refused::OverLimit { name: "daily_limit", .. }));
    assert!(ledger.transfer(transfer_order(0, 1, Money::minor(1)), NOON.plus_secs(86_400)).is_ok());

    let mut abroad = transfer_order(0, 1, Money::whole(1));
    abroad.recipient = UserId::parse("@carol:elsewhere.example").unwrap();
    assert_eq!(ledger.transfer(abroad, NOON).unwrap_err().code().0, "RECIPIENT_NO_WALLET");
    let suspended = UserId::parse("@suspended_dave:tween.example").unwrap();
    assert_eq!(ledger.active_account(&suspended, NOON).unwrap_err().code().0, "WALLET_SUSPENDED");
}

#[test]
fn a_balance_that_does_not_cover_is_named() {
    let mut ledger =
        Ledger::new(Rules { opening_balance: Money::whole(10), ..Rules::demo("tween.example") }, Sequence::seeded(1));
    let refused = ledger.transfer(transfer_order(0, 1, Money::minor(1001)), NOON).unwrap_err();
    assert_eq!(refused, Refused::InsufficientFunds { available: Money::whole(10), required: Money::minor(1001) });
}

#[test]
fn a_gift_is_opened_once_each_until_it_is_empty() {
    let mut ledger = ledger();
    let gift = ledger.give(gift_order(0, GiftKind::Equal(2), Money::minor(101)), NOON).unwrap();
    assert_eq!(gift.status(), "active");
    let (gift, share) = ledger.open_gift(&gift.id, &user(1), NOON).unwrap();
    assert_eq!((gift.status(), share.amount.as_minor() / 50), ("partially_opened", 1));
    assert_eq!(ledger.open_gift(&gift.id, &user(1), NOON).unwrap_err(), Refused::AlreadyOpened);
    let (gift, _) = ledger.open_gift(&gift.id, &user(2), NOON).unwrap();
    assert_eq!(gift.status(), "fully_opened");
    assert_eq!(ledger.open_gift(&gift.id, &user(3), NOON).unwrap_err(), Refused::GiftEmpty);
}

#[test]
fn what_is_left_of_a_gift_comes_back() {
    let mut ledger = ledger();
    let gift = ledger.give(gift_order(0, GiftKind::Equal(4), Money::whole(4)), NOON).unwrap();
    ledger.open_gift(&gift.id, &user(1), NOON).unwrap();
    let late = NOON.plus_secs(3600);
    ledger.settle_deadlines(late);
    assert_eq!(available(&mut ledger, 0), Money::whole(249_999));
    assert_eq!(ledger.open_gift(&gift.id, &user(2), late).unwrap_err(), Refused::GiftExpired);
}

#[test]
fn a_large_payment_takes_a_second_factor_and_locks_after_three_wrong_ones() {
    let mut ledger = ledger();
    let payment = ledger.request_payment(payment_order(0, Money::whole(10_001)), NOON).unwrap();
    let Authorized::Challenged(_, challenge) = ledger.authorize(&payment.id, NOON).unwrap() else {
        panic!("no second factor was asked for");
    };
    let wrong = ledger.verify_factor(&payment.id, &challenge.id, Factor::Pin("0000"), NOON).unwrap_err();
    assert_eq!(wrong, Refused::MfaFailed { attempts_remaining: 2 });
    let paid = ledger.verify_factor(&payment.id, &challenge.id, Factor::Pin(DEMO_PIN), NOON).unwrap();
    assert_eq!(paid.state, PaymentState::Completed);
    assert_eq!(ledger.merchant_balance(&shop()), Money::whole(10_001));

    let payment = ledger.request_payment(payment_order(0, Money::whole(10_001)), NOON).unwrap();
    ledger.challenge(&payment.id).unwrap_err();
    ledger.authorize(&payment.id, NOON).unwrap();
    let challenge = ledger.challenge(&payment.id).unwrap().1.clone();
    for _ in 0..2 {
        ledger.verify_factor(&payment.id, &challenge.id, Factor::Pin("0000"), NOON).unwrap_err();
    }
    for pin in ["0000", DEMO_PIN] {
        let locked = ledger.verify_factor(&payment.id, &challenge.id, Factor::Pin(pin), NOON).unwrap_err();
        assert_eq!(locked, Refused::MfaLocked);
    }
}

#[test]
fn refunds_reach_the_payer_and_never_exceed_the_payment() {
    let mut ledger = ledger();
    let payment = ledger.request_payment(payment_order(0, Money::whole(100)), NOON).unwrap();
    assert!(matches!(ledger.authorize(&payment.id, NOON).unwrap(), Authorized::Paid(_)));
    assert_eq!(available(&mut ledger, 0), Money::whole(249_900));
    let part = ledger.refund(&payment.id, &shop(), Some(Money::whole(30)), NOON).unwrap();
    assert_eq!(part.payment.state, PaymentState::PartiallyRefunded);
    ledger.refund(&payment.id, &shop(), Some(Money::whole(71)), NOON).unwrap_err();
    let rest = ledger.refund(&payment.id, &shop(), None, NOON).unwrap();
    assert_eq!((rest.amount, rest.payment.state), (Money::whole(70), PaymentState::Refunded));
    assert_eq!(available(&mut ledger, 0), Money::whole(250_000));
    let other = MiniAppId::parse("ma_other").unwrap();
    assert_eq!(ledger.refund(&payment.id, &other, None, NOON).unwrap_err(), Refused::NotFound("payment"));
}

#[test]
fn a_payment_ends_after_five_minutes() {
    let mut ledger = ledger();
    let payment = ledger.request_payment(payment_order(0, Money::whole(1)), NOON).unwrap();
    let late = NOON.plus_secs(300);
    ledger.settle_deadlines(late);
    assert_eq!(ledger.authorize(&payment.id, late).unwrap_err(), Refused::PaymentExpired);
}
