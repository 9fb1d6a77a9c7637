-- A brand's clicks. No column is unique: exact duplicates are clicks too.
select
    _account as account,
    _program as program_id,
    _day as click_day,
    event_date as clicked_at,
    media_id as partner_id,
    media_name as partner,
    unique_click as is_unique,
    device_type,
    customer_country
from {{ source('impact', 'clicks') }}
