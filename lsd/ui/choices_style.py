"""How the Choices tab looks: the theme's colours, so that it follows dark mode; one column where the page is narrow.

Gradio puts its own container before every selector, split at commas: inside `@media`, and in `:is`, there must be none.
"""

CSS = """
.lsd-c { --soft: color-mix(in srgb, var(--body-text-color) 68%, transparent); overflow-wrap: anywhere; min-width: 0 !important; }
div.lsd-c:not(.block) { display: grid; grid-template-columns: minmax(0, 1fr); }  /* a wide table is no reason for a wide page */
.lsd-c > .html-container { padding: 0 !important; }
.lsd-c h2 { font-size: 1.35rem; font-weight: 700; margin: 0 0 .2rem; }
.lsd-c h3 { font-size: 1.1rem; font-weight: 650; margin: 0 0 .3rem; }
.lsd-c h4 { font-size: .95rem; font-weight: 650; margin: 1rem 0 .3rem; }
.lsd-c p { margin: .35rem 0; line-height: 1.55; max-width: 58rem; }
.lsd-c .lsd-note { color: var(--soft); }
.lsd-c a { color: inherit; text-decoration: underline var(--color-accent); text-underline-offset: 3px; }
.lsd-c-intro h3 { margin-top: 1rem; }
.lsd-c-question { font-size: 1.05rem; font-weight: 600; }
.lsd-c-head .lsd-verdict { margin: .8rem 0; max-width: 58rem; }
.lsd-c-head .lsd-c-kept { border-left-color: #009e73; }
.lsd-c-head .lsd-c-beaten { border-left-color: #d55e00; }
.lsd-c-part { margin-top: 1.2rem; padding-top: 1.1rem; border-top: 1px solid var(--border-color-primary); }
.lsd-c-part:first-child { margin-top: .2rem; }
.lsd-c-links { display: none !important; }

#choices-factor .wrap { gap: .45rem; padding-bottom: .4rem; }
#choices-factor label { padding: .4rem .75rem; border-radius: 99px; font-size: .9rem; }
#choices-factor label input { position: absolute; opacity: 0; pointer-events: none; }
#choices-factor label span { margin-left: 0; }
#choices-factor label:focus-within { outline: 2px solid var(--color-accent); outline-offset: 2px; }
#choices-factor { scroll-margin-top: .8rem; }

.lsd-c-details { margin: .5rem 0; }
.lsd-c-details summary { cursor: pointer; font-weight: 600; font-size: .92rem; padding: .2rem 0; }
.lsd-c-plot { max-width: 100%; height: auto; border-radius: 8px; display: block; margin: .5rem 0; }
.lsd-c-narrow { display: none; }

.lsd-c-scroll { overflow-x: auto; margin: .5rem 0; max-width: 100%; width: fit-content; border-radius: 8px;
  border: 1px solid var(--border-color-primary); }
.lsd-c-scroll:focus-visible { outline: 2px solid var(--color-accent); }
.lsd-c-table { width: min-content; border-collapse: collapse; font-size: .86rem; margin: 0; overflow-wrap: normal; }
.lsd-c-table tr > * { padding: .4rem .7rem !important; border: none !important; text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; line-height: 1.35; white-space: nowrap; }
.lsd-c-table tbody tr > * { border-top: 1px solid var(--border-color-primary) !important; }
.lsd-c-table thead tr > * { font-weight: 600; vertical-align: bottom; white-space: normal; min-width: 5.4rem;
  background: var(--background-fill-secondary); }
.lsd-c-table tr > :first-child { text-align: left; position: sticky; left: 0; z-index: 1; white-space: normal;
  min-width: 10rem; background: var(--background-fill-primary); font-weight: 500; }
.lsd-c-table thead tr > :first-child { background: var(--background-fill-secondary); font-weight: 600; }
.lsd-c-table small { display: block; font-size: .72rem; color: var(--soft); font-weight: 400; }
.lsd-c-table tr > .lsd-c-words { text-align: left; white-space: normal; min-width: 26rem; }
.lsd-c-table tr.lsd-c-default > :nth-child(n) { font-weight: 700; }
.lsd-c-table .lsd-c-control > * { font-style: italic; color: var(--soft); }
.lsd-c-table td.lsd-c-best { background: color-mix(in srgb, #009e73 16%, transparent); }
.lsd-c-table.lsd-c-trust thead tr > :not(:first-child) { min-width: 14rem; }
.lsd-c-chip { display: block; padding: .05rem .4rem; margin: 0 0 2px; border-radius: 5px; font-size: .78rem; text-align: left;
  white-space: nowrap; }
.lsd-c-chip i { font-style: normal; opacity: .65; }
.lsd-c-up { background: #d3efe4; color: #0b4a37; } .lsd-c-down { background: #fbd9cc; color: #7a2c08; }
.lsd-c-same { background: #e5e7eb; color: #374151; }

.lsd-c-missing { font-size: .9rem; padding: .5rem .9rem; border-radius: 8px; background: var(--background-fill-secondary); }
.lsd-c-missing li { margin-left: 1.2rem; list-style: disc; }
.lsd-c-gallery .grid-wrap { height: auto !important; min-height: 0 !important; max-height: none !important; }
.lsd-c-gallery .thumbnail-item { display: flex; flex-direction: column; height: auto !important; aspect-ratio: auto !important;
  background: none; }
.lsd-c-gallery .thumbnail-item img { height: auto !important; width: 100%; flex: none; }
.lsd-c-gallery .caption-label { position: static !important; max-width: none !important; width: 100%;
  white-space: normal !important; margin: 0; padding: .35rem .2rem; border: none; box-shadow: none; background: none;
  font-size: .85rem; line-height: 1.3; text-align: center; overflow: visible !important; color: var(--body-text-color); }

@media (max-width: 1180px) {
  .lsd-c-wide { display: none; }
  .lsd-c-narrow { display: block; }
}
@media (max-width: 800px) { .lsd-c-gallery .grid-container { --grid-cols: 3 !important; } }
@media (max-width: 600px) {
  #choices-factor label { font-size: .82rem; padding: .35rem .6rem; }
  .lsd-c-gallery .grid-container { --grid-cols: 2 !important; }
  .lsd-c-table tr > :first-child { min-width: 5rem; }
  .lsd-c-table tr > .lsd-c-words { min-width: 15rem; }
  .lsd-c-table.lsd-c-trust thead tr > :not(:first-child) { min-width: 9rem; }
}
"""
