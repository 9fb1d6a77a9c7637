-- A brand's actions: one row is an action as impact.com has it now. Days are those of the account.
select
    _account as account,
    _program as program_id,
    _day as action_day,
    action_id,
    action_date as acted_at,
    status,
    media_partner as partner,
    action_tracker as event_type,
    sale_amount,
    payout,
    status = 'REVERSED' as is_reversed,
    _changed_at as changed_at
from {{ source('impact', 'actions') }}
