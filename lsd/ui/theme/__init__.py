"""How the page looks: Gradio's theme, with colours and type of ours. The CSS files beside this one are its rules."""

import gradio as gr

_FONT = ("system-ui", "sans-serif")  # what the visitor has: nothing is fetched from a font server


def theme() -> gr.themes.Base:
    """Slate on white, or on black; the accent is for what can be pressed, and for what is chosen."""
    base = gr.themes.Soft(
        primary_hue="indigo", secondary_hue="slate", neutral_hue="slate", font=_FONT, radius_size="md"
    )
    return base.set(
        block_label_text_color="*neutral_600", block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700", block_title_text_color_dark="*neutral_200",
        block_label_background_fill="*background_fill_secondary", block_label_background_fill_dark="*neutral_800",
        block_title_text_weight="600", block_title_text_size="*text_sm", block_shadow="none",
        block_background_fill="transparent", block_background_fill_dark="transparent", block_border_width="0px",
        block_padding="6px 0",
        body_background_fill="white", body_background_fill_dark="*neutral_950",
        background_fill_secondary="*neutral_100", background_fill_secondary_dark="*neutral_900",
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400",
        border_color_primary="*neutral_200", border_color_primary_dark="*neutral_700",
        block_title_background_fill="none", block_title_background_fill_dark="none", block_title_padding="0",
        block_title_border_width="0px", form_gap_width="0px",
        input_background_fill="white", input_background_fill_dark="*neutral_900", input_border_width="1px",
        input_border_color="*neutral_300", input_border_color_dark="*neutral_600", input_shadow="none", input_shadow_dark="none",
        button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white", button_primary_text_color_dark="white",
        button_cancel_background_fill="transparent", button_cancel_background_fill_dark="transparent",
        button_cancel_text_color="*body_text_color", button_cancel_text_color_dark="*body_text_color",
        color_accent="*primary_600", color_accent_soft="*primary_100", color_accent_soft_dark="*primary_950",
        checkbox_label_background_fill_selected="*primary_600", checkbox_label_background_fill_selected_dark="*primary_600",
        checkbox_label_shadow="none",
        checkbox_border_color="*neutral_500", checkbox_border_color_dark="*neutral_400",  # seen on any ground: 3 to 1 at least
        link_text_color="*primary_700", link_text_color_hover="*primary_800", link_text_color_visited="*primary_700",
        link_text_color_active="*primary_800", link_text_color_dark="*primary_300", link_text_color_hover_dark="*primary_200",
        link_text_color_visited_dark="*primary_300", link_text_color_active_dark="*primary_200",
    )  # fmt: skip
