//! The bodies, after the shape of what Stripe, Adyen and Standard Webhooks senders send; long lists of nulls are left
//! out. `@order_key@` and `@user_key@` become the source's metadata keys.

use crate::facts::{ADYEN_ACCOUNT, adyen_code};
use crate::plan::{Provider, Step};

const STRIPE_EVENT: &str = r#"{"id":"evt_LT$event$","object":"event","api_version":"2026-10-28.endive","created":$created$,"data":{"object":@object@},"livemode":false,"pending_webhooks":1,"request":{"id":"req_LT$event$","idempotency_key":null},"type":"@type@"}"#;

const PAYMENT_INTENT: &str = r#"{"id":"pi_LT$payment$","object":"payment_intent","amount":$total$,"amount_capturable":@capturable@,"amount_details":{"tip":{}},"amount_received":@received@,"application":null,"automatic_payment_methods":{"allow_redirects":"always","enabled":true},"canceled_at":null,"capture_method":"automatic_async","client_secret":"pi_LT$payment$_secret_FAKE","confirmation_method":"automatic","created":$created$,"currency":"$currency$","customer":"cus_LT$order$","description":"Order $order_ref$","last_payment_error":null,"latest_charge":"ch_LT$payment$","livemode":false,"metadata":{"@order_key@":"$order_ref$","@user_key@":"u-$order$"},"next_action":null,"on_behalf_of":null,"payment_method":"pm_LT$payment$","payment_method_options":{"card":{"installments":null,"network":null,"request_three_d_secure":"automatic"}},"payment_method_types":["card","link"],"receipt_email":"zoe.mueller@example.com","status":"@status@","transfer_data":null,"transfer_group":null}"#;

const REFUND: &str = r#"{"id":"re_LT$transaction$","object":"refund","amount":$amount$,"balance_transaction":"txn_LT$event$","charge":"ch_LT$payment$","created":$created$,"currency":"$currency$","destination_details":{"card":{"reference_status":"pending","reference_type":"acquirer_reference_number","type":"refund"},"type":"card"},"metadata":{},"payment_intent":"pi_LT$payment$","payment_method":"pm_LT$payment$","reason":"requested_by_customer","receipt_number":null,"status":"succeeded","transfer_reversal":null}"#;

const CHARGE: &str = r#"{"id":"ch_LT$payment$","object":"charge","amount":$total$,"amount_captured":$total$,"amount_refunded":$amount$,"balance_transaction":"txn_LT$event$","billing_details":{"address":{"city":"Köln","country":"DE","line1":"Hohe Straße 1/2","line2":null,"postal_code":"50667","state":null},"email":"zoe.mueller@example.com","name":"Zoë Müller","phone":null},"captured":true,"created":$created$,"currency":"$currency$","customer":"cus_LT$order$","disputed":false,"livemode":false,"metadata":{"@order_key@":"$order_ref$","@user_key@":"u-$order$"},"outcome":{"network_status":"approved_by_network","risk_level":"normal","risk_score":12,"seller_message":"Payment complete.","type":"authorized"},"paid":true,"payment_intent":"pi_LT$payment$","payment_method":"pm_LT$payment$","refunded":false,"status":"succeeded"}"#;

const DISPUTE: &str = r#"{"id":"du_LT$transaction$","object":"dispute","amount":$amount$,"balance_transactions":[],"charge":"ch_LT$payment$","created":$created$,"currency":"$currency$","evidence":{"customer_email_address":"zoe.mueller@example.com","customer_name":"Zoë Müller","product_description":null,"receipt":null},"evidence_details":{"due_by":$created$,"has_evidence":false,"past_due":false,"submission_count":0},"is_charge_refundable":false,"livemode":false,"metadata":{},"network_reason_code":"10.4","payment_intent":"pi_LT$payment$","payment_method_details":{"card":{"brand":"visa","case_type":"chargeback","network_reason_code":"10.4"},"type":"card"},"reason":"fraudulent","status":"@status@"}"#;

const CUSTOMER: &str = r#"{"id":"cus_LT$order$","object":"customer","balance":0,"created":$created$,"currency":null,"email":"zoe.mueller@example.com","invoice_prefix":"FAKE0001","livemode":false,"metadata":{"@user_key@":"u-$order$"},"name":"Zoë Müller","preferred_locales":["de","en"],"tax_exempt":"none"}"#;

const ADYEN: &str = r#"{"live":"false","notificationItems":[{"NotificationRequestItem":{"additionalData":{@additional@"hmacSignature":"$signature$"},"amount":{"currency":"$CURRENCY$","value":$amount$},"eventCode":"@code@","eventDate":"$local_time$","merchantAccountCode":"@account@","merchantReference":"$order_ref$","originalReference":"@original@","paymentMethod":"visa","pspReference":"$psp$","reason":"","success":"@success@"}}]}"#;

const ADYEN_CARD: &str = r#""authCode":"1234","avsResult":"4 AVS not supported for this card type","cardBin":"411111","cardHolderName":"Zoë Müller","cardSummary":"1111","cvcResult":"1 Matches","expiryDate":"03/2030","fundingSource":"CREDIT","issuerCountry":"DE","shopperReference":"u-$order$","threeDAuthenticated":"true","#;

const ADYEN_DISPUTE: &str =
    r#""chargebackReasonCode":"10.4","chargebackSchemeCode":"visa","defendable":"true","disputeStatus":"Undefended","#;

const TOLLGATE: &str = r#"{"type":"@type@","timestamp":"$time$","data":{"payment_id":"pay_LT$payment$","@transaction@order_id":"$order_ref$","user_id":"u-$order$","amount":$amount$,"currency":"$CURRENCY$"}}"#;

/// The body of a provider's event, with gaps.
pub fn body(provider: Provider, step: Step, order_key: &str, user_key: &str) -> String {
    match provider {
        Provider::Stripe => stripe(step).replace("@order_key@", order_key).replace("@user_key@", user_key),
        Provider::Adyen => adyen(step),
        Provider::Tollgate => tollgate(step),
    }
}

fn stripe(step: Step) -> String {
    let intent = |capturable: &str, received: &str, status: &str| {
        let object = PAYMENT_INTENT.replace("@capturable@", capturable).replace("@received@", received);
        object.replace("@status@", status)
    };
    let (event_type, object) = match step {
        Step::Failed => ("payment_intent.payment_failed", intent("0", "0", "requires_payment_method")),
        Step::Authorized => ("payment_intent.amount_capturable_updated", intent("$amount$", "0", "requires_capture")),
        Step::Captured => ("payment_intent.succeeded", intent("0", "$amount$", "succeeded")),
        Step::Cancelled => ("payment_intent.canceled", intent("0", "0", "canceled")),
        Step::Refunded => ("refund.created", REFUND.to_owned()),
        Step::RefundedTotal => ("charge.refunded", CHARGE.to_owned()),
        Step::Disputed => ("charge.dispute.created", DISPUTE.replace("@status@", "needs_response")),
        Step::DisputeWon => ("charge.dispute.closed", DISPUTE.replace("@status@", "won")),
        Step::NoChange => ("customer.created", CUSTOMER.to_owned()),
        Step::Unknown => ("payment_intent.some_new_type", intent("0", "$amount$", "succeeded")),
    };
    STRIPE_EVENT.replace("@object@", &object).replace("@type@", event_type)
}

fn adyen(step: Step) -> String {
    let (code, success) = adyen_code(step);
    let additional = match step {
        Step::Failed | Step::Authorized => ADYEN_CARD,
        Step::Disputed | Step::DisputeWon => ADYEN_DISPUTE,
        _ => "",
    };
    let original = if has_original(step) { "$payment$" } else { "" };
    ADYEN
        .replace("@additional@", additional)
        .replace("@account@", ADYEN_ACCOUNT)
        .replace("@code@", code)
        .replace("@success@", success)
        .replace("@original@", original)
}

/// Whether an Adyen item names the payment that it changes.
pub fn has_original(step: Step) -> bool {
    !matches!(step, Step::Failed | Step::Authorized | Step::NoChange | Step::Unknown)
}

fn tollgate(step: Step) -> String {
    let (event_type, transaction) = match step {
        Step::Failed => ("payment.failed", ""),
        Step::Authorized => ("payment.authorized", ""),
        Step::Captured => ("payment.captured", "cap_LT"),
        Step::Cancelled => ("payment.cancelled", ""),
        Step::Refunded | Step::RefundedTotal => ("refund.succeeded", "re_LT"),
        Step::Disputed => ("dispute.opened", "dp_LT"),
        Step::DisputeWon => ("dispute.won", "dp_LT"),
        Step::NoChange => ("customer.created", ""),
        Step::Unknown => ("payment.some_new_type", ""),
    };
    let transaction = match transaction {
        "" => String::new(),
        prefix => format!("transaction_id\":\"{prefix}$transaction$\",\""),
    };
    TOLLGATE.replace("@type@", event_type).replace("@transaction@", &transaction)
}
